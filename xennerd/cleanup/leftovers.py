# SPDX-License-Identifier: GPL-2.0-or-later
"""What a killed process leaves, and which of it nobody needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from xenner.types import Domid


class Kind(StrEnum):
    """In the order in which they are removed: a domain's vmcore is what says
    that its number is taken, and goes last."""

    XENSTORE = "xenstore"
    TAP = "tap"
    CGROUP = "cgroup"
    LINK = "link"
    SOCKET = "socket"
    RECORD = "record"
    VMCORE = "vmcore"


OUTSIDE = frozenset({Kind.XENSTORE, Kind.TAP, Kind.CGROUP})
"""What does not stand in the runtime directory."""


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that belongs to a domain, or (`domid` None) to a daemon.

    `name` is a path, an interface or a node. `holder` says who uses it now,
    empty: nobody. `is_preserved`: left on purpose.
    """

    kind: Kind
    domid: Domid | None
    name: str
    size_bytes: int = 0
    holder: str = ""
    is_preserved: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A thing that is nobody's, and whether it may be removed."""

    thing: Thing
    is_removable: bool
    why: str


def judge(
    things: Iterable[Thing],
    *,
    live: frozenset[Domid],
    removes_preserved: bool,
    doubt: str,
) -> list[Verdict]:
    """What is stale, in the order of domains and removal.

    `doubt`, if there is one, is why it cannot be told whether a domain lives
    whose vmcore is not in the runtime directory.
    """
    verdicts = []
    for thing in things:
        if thing.domid in live or thing.domid == 0:
            continue
        if thing.holder:
            # A daemon's socket that is served is no news.
            if thing.domid is not None:
                verdicts.append(
                    Verdict(thing, False, f"in use by {thing.holder}")
                )
        elif thing.is_preserved and not removes_preserved:
            verdicts.append(Verdict(thing, False, "kept on purpose"))
        elif doubt and thing.kind in OUTSIDE:
            verdicts.append(Verdict(thing, False, doubt))
        else:
            verdicts.append(Verdict(thing, True, _why(thing)))
    order = list(Kind)
    return sorted(
        verdicts,
        key=lambda v: (
            v.thing.domid if v.thing.domid is not None else -1,
            order.index(v.thing.kind),
            v.thing.name,
        ),
    )


def _why(thing: Thing) -> str:
    if thing.domid is None:
        return "nobody listens"
    return f"domain {thing.domid} is not running"


_VIF = re.compile(r"vif([1-9][0-9]{0,4})\.[0-9]+")
_VIF_PATH = re.compile(r"(?:^|/)backend/vif/([1-9][0-9]{0,4})/[0-9]+$")
_UNIT = re.compile(r"xenner(?:@|-)([1-9][0-9]{0,4})\.(?:service|slice|scope)")
_BESIDE = re.compile(r"(?:console|monitor)\.([1-9][0-9]{0,4})")


def domid_of_tap(name: str, alias: str) -> Domid | None:
    """Whose a tap is: netbackd writes its xenstore path as the alias, and the
    name is Xen's unless the domain's file has another one."""
    words = alias.split()
    if len(words) == 2 and words[0] == "xenner":
        return _number(_VIF_PATH.search(words[1]))
    return _number(_VIF.fullmatch(name))


def domid_of_cgroup(name: str) -> Domid | None:
    """Of xenner@7.service or a slice xenner-7.slice."""
    return _number(_UNIT.fullmatch(name))


def domid_of_link(name: str) -> Domid | None:
    """Of console.7 or monitor.7."""
    return _number(_BESIDE.fullmatch(name))


def domid_of_node(name: str) -> Domid | None:
    """Of a node that is named by a domain's number."""
    return _number(re.fullmatch(r"([1-9][0-9]{0,4})", name))


def _number(match: re.Match[str] | None) -> Domid | None:
    return Domid(int(match[1])) if match else None
