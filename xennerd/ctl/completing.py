# SPDX-License-Identifier: GPL-2.0-or-later
"""complete: what a shell offers after what has been typed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from xenner.errors import HostError
from xenner.paths import Paths
from xennerd.ctl.command import Command
from xennerd.ctl.domains import list_domains

_DOMAIN = re.compile(r"<?-?a?\|?Domain", re.IGNORECASE)
_OPTION = re.compile(r"--?[a-z-]+")


def candidates(
    typed: Sequence[str],
    usages: Mapping[str, str],
    *,
    names: Callable[[], Iterable[str]],
) -> list[str]:
    """The words that the last of `typed` may become; `typed` is what follows
    the program's name, `usages` each command's usage, `names` gives those of
    domains. Pure, but for that."""
    *before, last = typed or [""]
    if not before:
        found: Iterable[str] = usages
    elif before[0] not in usages:
        return []
    elif last.startswith("-"):
        found = set(_OPTION.findall(usages[before[0]]))
    elif _DOMAIN.search(usages[before[0]].partition(" ")[2]):
        has_one = any(not word.startswith("-") for word in before[1:])
        found = [] if has_one else names()
    else:
        return []
    return sorted(word for word in found if word.startswith(last))


def _names() -> list[str]:
    with suppress(HostError):
        return [domain.name for domain in list_domains(Paths.of(os.environ))]
    return []


def complete_command(commands: Mapping[str, Command]) -> Command:
    """The command, for all `commands` that there are."""

    def run(words: Sequence[str]) -> int:
        usages = {name: command.usage for name, command in commands.items()}
        for word in candidates(words, usages, names=_names):
            print(word)
        return 0

    return Command(
        run,
        "complete [word ...]",
        "Print what the last word may become; for shells",
    )
