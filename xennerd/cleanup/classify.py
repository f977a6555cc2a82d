# SPDX-License-Identifier: GPL-2.0-or-later
"""Which leftovers of killed processes nobody needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from xenner.types import Domid


class Kind(StrEnum):
    """In the order of removal. The vmcore goes last, because it marks the
    domain's number as taken."""

    XENSTORE = "xenstore"
    TAP = "tap"
    CGROUP = "cgroup"
    LINK = "link"
    SOCKET = "socket"
    RECORD = "record"
    VMCORE = "vmcore"


NOT_IN_RUNTIME_DIR = frozenset({Kind.XENSTORE, Kind.TAP, Kind.CGROUP})
"""The kinds that are found elsewhere."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that belongs to a domain, or (`domid` None) to a daemon.

    `name` is a path, an interface or a node. `holder` is the process that uses
    it now, empty: none. `is_preserved`: it stays on purpose.
    """

    kind: Kind
    domid: Domid | None
    name: str
    size_bytes: int = 0
    holder: str = ""
    is_preserved: bool = False


@dataclass(frozen=True, slots=True)
class Classified:
    """A leftover, and whether it may be removed."""

    leftover: Leftover
    is_removable: bool
    why: str


def classify(
    leftovers: Iterable[Leftover],
    *,
    live: frozenset[Domid],
    removes_preserved: bool,
    doubt: str,
) -> list[Classified]:
    """Classify the leftovers of dead domains, sorted by domain and kind.

    `doubt`, if not empty, says why domains with a vmcore outside the runtime
    directory may be alive.
    """
    found = []
    for leftover in leftovers:
        if leftover.domid in live or leftover.domid == 0:
            continue
        if leftover.holder:
            # Daemons' sockets that are in use are not reported.
            if leftover.domid is not None:
                found.append(
                    Classified(leftover, False, f"in use by {leftover.holder}")
                )
        elif leftover.is_preserved and not removes_preserved:
            found.append(Classified(leftover, False, "kept on purpose"))
        elif doubt and leftover.kind in NOT_IN_RUNTIME_DIR:
            found.append(Classified(leftover, False, doubt))
        else:
            found.append(Classified(leftover, True, _why(leftover)))
    order = list(Kind)
    return sorted(
        found,
        key=lambda v: (
            v.leftover.domid if v.leftover.domid is not None else -1,
            order.index(v.leftover.kind),
            v.leftover.name,
        ),
    )


def _why(leftover: Leftover) -> str:
    if leftover.domid is None:
        return "nobody listens"
    return f"domain {leftover.domid} is not running"


_VIF = re.compile(r"vif([1-9][0-9]{0,4})\.[0-9]+")
_VIF_PATH = re.compile(r"(?:^|/)backend/vif/([1-9][0-9]{0,4})/[0-9]+$")
_UNIT = re.compile(r"xenner(?:@|-)([1-9][0-9]{0,4})\.(?:service|slice|scope)")
_LINK = re.compile(r"(?:console|monitor)\.([1-9][0-9]{0,4})")


def domid_of_tap(name: str, alias: str) -> Domid | None:
    """The domain of a tap, by its alias, in which netbackd writes the xenstore
    path, or by its name, which is Xen's unless the domain's file sets it."""
    words = alias.split()
    if len(words) == 2 and words[0] == "xenner":
        return _number(_VIF_PATH.search(words[1]))
    return _number(_VIF.fullmatch(name))


def domid_of_cgroup(name: str) -> Domid | None:
    """The domain of xenner@7.service or xenner-7.slice."""
    return _number(_UNIT.fullmatch(name))


def domid_of_link(name: str) -> Domid | None:
    """The domain of console.7 or monitor.7."""
    return _number(_LINK.fullmatch(name))


def domid_of_node(name: str) -> Domid | None:
    """The domain of a node that has a number as its name."""
    return _number(re.fullmatch(r"([1-9][0-9]{0,4})", name))


def _number(match: re.Match[str] | None) -> Domid | None:
    return Domid(int(match[1])) if match else None
