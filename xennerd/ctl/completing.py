# SPDX-License-Identifier: GPL-2.0-or-later
"""complete: what a shell offers after what has been typed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from xenner.errors import HostError
from xenner.paths import Paths
from xennerd.ctl.command import DOMAIN, Command
from xennerd.ctl.domains import list_domains

_FOR_ALL = ("*", "+")


def candidates(
    typed: Sequence[str],
    commands: Mapping[str, Command],
    *,
    names: Callable[[], Iterable[str]],
) -> list[str]:
    """The words that the last of `typed` may become; `typed` is what follows
    the program's name, `names` gives those of domains. Pure, but for that."""
    *before, last = typed or [""]
    if not before:
        found: Iterable[str] = commands
    elif before[0] not in commands:
        return []
    else:
        declared = commands[before[0]].parser(before[0]).declared
        found = _following(before[1:], last, declared, names)
    return sorted({word for word in found if word.startswith(last)})


def _following(
    before: Sequence[str],
    last: str,
    declared: Sequence[argparse.Action],
    names: Callable[[], Iterable[str]],
) -> Iterable[str]:
    options = {
        word: action for action in declared for word in action.option_strings
    }
    nr_words, value_of = 0, None
    for word in before:
        if value_of is not None:
            value_of = None
        elif word.startswith("-"):
            action = options.get(word)
            # argparse: an option of which 0 words follow has no value.
            value_of = action if action and action.nargs != 0 else None
        else:
            nr_words += 1
    if value_of is not None:
        return value_of.choices or ()
    if last.startswith("-"):
        return options
    action = _taker(declared, nr_words)
    return names() if action is not None and action.dest == DOMAIN else ()


def _taker(
    declared: Sequence[argparse.Action], number: int
) -> argparse.Action | None:
    """Whose the word of that number is."""
    for action in declared:
        if action.option_strings:
            continue
        if number == 0 or action.nargs in _FOR_ALL:
            return action
        number -= 1
    return None


def _names() -> list[str]:
    with suppress(HostError):
        return [domain.name for domain in list_domains(Paths.of(os.environ))]
    return []


def complete_command(commands: Mapping[str, Command]) -> Command:
    """The command, for all `commands` that there are."""

    def run(arguments: argparse.Namespace) -> int:
        for word in candidates(arguments.words, commands, names=_names):
            print(word)
        return 0

    return Command(run, None, "Print what the last word may become; for shells")
