# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of the host's CPUs as domain files spell them: xl.cfg(5), cpus. Pure.

What a list means depends on the host, so that it is kept as it was given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PART = re.compile(r"(\^?)(nodes?:)?(?:(all)|([0-9]{1,4})(?:-([0-9]{1,4}))?)")


@dataclass(frozen=True, slots=True)
class HostCpus:
    """The CPUs that there are, and those of each NUMA node."""

    cpus: frozenset[int]
    nodes: Mapping[int, frozenset[int]]


@dataclass(frozen=True, slots=True)
class Step:
    """CPUs or nodes `first` to `last` that are added or taken out; without
    numbers all."""

    numbers: range | None
    is_out: bool = False
    are_nodes: bool = False


@dataclass(frozen=True, slots=True)
class Cpus:
    """Lists that parse_cpus() takes; of one for each vCPU all, because the
    guest's threads share them."""

    lists: tuple[str, ...]

    def on(self, host: HostCpus) -> frozenset[int] | None:
        """Those of this host; None: all of them. What a list names and is not
        there is passed over, as by xl. ValueError: none is left."""
        found = frozenset[int]()
        for text in self.lists:
            found |= _walk(parse_cpus(text), host)
        if not found & host.cpus:
            raise ValueError("none of the CPUs that are given is there")
        return None if found >= host.cpus else found & host.cpus


def _walk(steps: tuple[Step, ...], host: HostCpus) -> frozenset[int]:
    found = frozenset[int]()
    for step in steps:
        if step.numbers is None:
            chosen = host.cpus
        elif step.are_nodes:
            none = frozenset[int]()
            chosen = none.union(
                *(host.nodes.get(number, none) for number in step.numbers)
            )
        else:
            chosen = frozenset(step.numbers)
        found = found - chosen if step.is_out else found | chosen
    return found


def parse_cpus(text: str) -> tuple[Step, ...]:
    """`0-3,5,^1`, `all,^0`, `nodes:0-1,^node:0,^3`; in this order. ValueError
    for what xl refuses, and for what leaves no CPU on any host."""
    steps = tuple(
        _step(part) for part in re.sub(r"\s", "", text).split(",") if part
    )
    if all(step.is_out for step in steps) or not _could_be_some(steps):
        raise ValueError(f"{text!r}: no CPU is left")
    return steps


def _could_be_some(steps: tuple[Step, ...]) -> bool:
    """Where only numbers count they say it themselves."""
    if any(step.numbers is None or step.are_nodes for step in steps):
        return True
    return bool(_walk(steps, HostCpus(frozenset(), {})))


def _step(part: str) -> Step:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r}: as 0-3,5,^1, nodes:0-1 or all")
    is_out, are_nodes = bool(match[1]), bool(match[2])
    if match[3]:
        if is_out:
            raise ValueError(f"{part!r}: all cannot be taken out")
        return Step(None)
    first, last = int(match[4]), int(match[5] or match[4])
    if first > last:
        raise ValueError(f"{part!r}: from the greater to the smaller")
    return Step(range(first, last + 1), is_out=is_out, are_nodes=are_nodes)
