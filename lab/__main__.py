# SPDX-License-Identifier: GPL-2.0-or-later
"""`make lab` and `make lab-run`: see README.md."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from lab.cache import cache_directory, remove
from lab.errors import LabError, TimeLimitError
from lab.stage import BUILD, make_stage

# As timeout(1) and docker-run(1) have them, so that they are told from a
# command's own.
_STATUS_LIMIT = 124
_STATUS_LAB = 125
_LIMIT_S = 900.0


class Lab(Protocol):
    """What the machine and the container have in common."""

    def run(self, command: str, *, limit_s: float) -> int:
        """Run a shell command, its output ours; its exit status."""

    def shell(self, command: str) -> int:
        """Run a shell command on this terminal; its exit status."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options, or SystemExit with status 2 and one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="lab", description="Machines to test on that this one is not."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="run one command in the lab")
    shell = actions.add_parser("shell", help="a shell in the lab")
    for action in (run, shell):
        action.add_argument(
            "--where",
            choices=("machine", "container", "xen"),
            default="machine",
            help="which lab (%(default)s)",
        )
        action.add_argument(
            "--out",
            type=Path,
            default=BUILD / "out",
            metavar="DIRECTORY",
            help="where what the command leaves in $LAB_OUT comes to "
            "(%(default)s)",
        )
    run.add_argument(
        "--limit-s",
        type=float,
        default=_LIMIT_S,
        metavar="SECONDS",
        help="end a command that takes longer (%(default)s)",
    )
    run.add_argument("command", metavar="CMD", help="a shell command")
    shell.add_argument(
        "command",
        metavar="CMD",
        nargs="?",
        default="exec bash",
        help="instead of the shell, on this terminal",
    )
    actions.add_parser("clean", help="empty the lab's cache")
    return parser.parse_args(arguments)


@contextmanager
def start_lab(where: str, *, out: Path) -> Iterator[Lab]:
    """The lab of that name, ready for the tree under test."""
    # Each needs programs that the other does without.
    if where == "container":
        from lab.container import start_container
        from lab.root import find_root

        root = find_root()
        with (
            make_stage() as stage,
            start_container(root, stage=stage, out=out) as container,
        ):
            yield container
    elif where == "xen":
        from lab.xenhost import boot_xen_host

        with (
            make_stage() as stage,
            boot_xen_host(stage=stage, out=out) as machine,
        ):
            yield machine
    else:
        from lab.machine import start_machine

        with (
            make_stage() as stage,
            start_machine(stage=stage, out=out) as machine,
        ):
            yield machine


def perform(options: argparse.Namespace) -> int:
    """Do what the options say; the exit status."""
    if options.action == "clean":
        remove(cache_directory())
        return 0
    if options.action == "run" and not options.command.strip():
        print("lab: no command: make lab-run CMD='...'", file=sys.stderr)
        return 2
    out: Path = options.out.resolve()
    remove(out)
    out.mkdir(parents=True)
    with start_lab(options.where, out=out) as lab:
        if options.action == "shell":
            return lab.shell(options.command)
        return lab.run(options.command, limit_s=options.limit_s)


def main() -> int:
    # The lab's root is everybody's there.
    os.umask(0o022)
    # As an exception, so that what was started is ended in order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = parse(sys.argv[1:])
    try:
        return perform(options)
    except TimeLimitError as error:
        print(f"lab: {error}", file=sys.stderr)
        return _STATUS_LIMIT
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return _STATUS_LAB
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
