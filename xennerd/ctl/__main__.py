# SPDX-License-Identifier: GPL-2.0-or-later
"""`xennerctl`, and `xl` where it is installed as that."""

import os
import sys
from collections.abc import Sequence

from xenner.errors import ConfigError, HostError
from xennerd.ctl import (
    acting,
    completing,
    console,
    creating,
    files,
    plugging,
    showing,
    top,
    updating,
)
from xennerd.ctl import unsupported as absent
from xennerd.ctl.command import (
    Command,
    NoCommandError,
    find_command,
    help_text,
    own_name,
)
from xennerd.ctl.domains import NoDomainError

COMMANDS: dict[str, Command] = {
    **acting.COMMANDS,
    **console.COMMANDS,
    **creating.COMMANDS,
    **files.COMMANDS,
    **plugging.COMMANDS,
    **showing.COMMANDS,
    **top.COMMANDS,
    **updating.COMMANDS,
}
COMMANDS["complete"] = completing.complete_command(COMMANDS)
# xl's own: verbosity, force, timestamps, progress, dry run.
_GLOBAL_OPTIONS = frozenset({"-v", "-vv", "-vvv", "-f", "-t", "-T", "-N"})
# As a shell reports what SIGINT and SIGPIPE end.
_INTERRUPTED, _UNREAD = 128 + 2, 128 + 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Find the command and run it: 0, 1 it failed, 2 what was asked is
    wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = own_name()
    while words and words[0] in _GLOBAL_OPTIONS:
        words.pop(0)
    try:
        status = _run(words, name=name)
        # None: the caller has closed it.
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1 if isinstance(error, NoCommandError) else 2
    except NoDomainError as error:
        print(error, file=sys.stderr)
        return 1
    except HostError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has what it wanted, and the rest has no place to go.
        _drop_output()
        return _UNREAD
    except OSError as error:
        # A full disk under standard output, most often.
        print(f"{name}: {error}", file=sys.stderr)
        _drop_output()
        return 1


def _drop_output() -> None:
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: Sequence[str], *, name: str) -> int:
    if not words:
        print(help_text(COMMANDS, name=name), end="", file=sys.stderr)
        return 1
    if words[0] in ("help", "-h", "--help"):
        return _help(words[1:], name=name)
    command = _find(words[0])
    return COMMANDS[command](command, words[1:])


def _find(word: str) -> str:
    name = find_command(word, {**COMMANDS, **absent.REASONS})
    if name not in COMMANDS:
        raise HostError(f"{name}: {absent.REASONS[name]}")
    return name


def _help(words: Sequence[str], *, name: str) -> int:
    if not words:
        print(help_text(COMMANDS, name=name), end="")
        return 0
    command = _find(words[0])
    print(COMMANDS[command].parser(command).format_help(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
