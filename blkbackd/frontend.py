# SPDX-License-Identifier: GPL-2.0-or-later
"""What a frontend writes of its rings (io/blkif.h). Reads nothing by itself: a
function gives each node's value."""

from blkbackd.engine import ABIS, MAX_RING_ORDER, Ring
from xenner.backend.frontendnodes import Read, queue_prefixes, read_number
from xenner.errors import GuestError
from xenner.types import Domid, GrantRef, Port

MAX_QUEUES = 4
"""Each is a thread, and has its part of the machine's aio-max-nr. A guest
takes no more than it has CPUs."""


def read_rings(read: Read, domid: Domid) -> list[Ring]:
    """One for each of its queues, the first first. GuestError: they make no
    sense. Protocol and size are all queues', as Linux' frontend has it."""
    # One that is empty is none, as to Linux' backend.
    protocol = read("protocol") or None
    if protocol not in ABIS:
        raise GuestError(domid, f"unknown protocol {protocol!r}")
    order = None
    if read("ring-page-order") is not None:
        order = read_number(
            read, "ring-page-order", domid, end=MAX_RING_ORDER + 1
        )

    def ring(prefix: str) -> Ring:
        return Ring(
            domid=domid,
            port=Port(read_number(read, f"{prefix}event-channel", domid)),
            abi=ABIS[protocol],
            refs=tuple(
                GrantRef(read_number(read, prefix + name, domid))
                for name in _ref_names(read, prefix, order)
            ),
        )

    return list(map(ring, queue_prefixes(read, domid, max_queues=MAX_QUEUES)))


def _ref_names(read: Read, prefix: str, order: int | None) -> list[str]:
    """The nodes of a ring's pages. Without an order there may be those of a
    frontend that was there before, which had one."""
    if order is None:
        return ["ring-ref"]
    names = [f"ring-ref{i}" for i in range(1 << order)]
    # The only page of a ring has two names: io/blkif.h's, and Linux'.
    if order == 0 and not read(prefix + names[0]):
        return ["ring-ref"]
    return names
