# SPDX-License-Identifier: GPL-2.0-or-later
"""What a frontend writes of its rings (io/blkif.h). Reads nothing by itself: a
function gives each node's value."""

from collections.abc import Callable

from blkbackd.engine import ABIS, MAX_RING_ORDER, Ring
from xenner.errors import GuestError
from xenner.types import Domid, GrantRef, Port

MAX_QUEUES = 4
"""Each is a thread, and has its part of the machine's aio-max-nr. A guest
takes no more than it has CPUs."""

_U32_END = 1 << 32

Read = Callable[[str], str | None]


def read_rings(read: Read, domid: Domid) -> list[Ring]:
    """One for each of its queues, the first first. GuestError: they make no
    sense. Protocol and size are all queues', as Linux' frontend has it."""
    protocol = read("protocol")
    if protocol not in ABIS:
        raise GuestError(domid, f"unknown protocol {protocol!r}")
    if read("ring-page-order") is None:
        names = ["ring-ref"]
    else:
        order = _number(read, "ring-page-order", domid, end=MAX_RING_ORDER + 1)
        names = [f"ring-ref{i}" for i in range(1 << order)]

    def ring(prefix: str) -> Ring:
        return Ring(
            domid=domid,
            port=Port(_number(read, f"{prefix}event-channel", domid)),
            abi=ABIS[protocol],
            refs=tuple(
                GrantRef(_number(read, prefix + name, domid)) for name in names
            ),
        )

    count = 1
    if read("multi-queue-num-queues") is not None:
        count = _number(
            read, "multi-queue-num-queues", domid, end=MAX_QUEUES + 1
        )
    if count == 0:
        raise GuestError(domid, "it has no queues")
    if count == 1:
        return [ring("")]
    return [ring(f"queue-{i}/") for i in range(count)]


def _number(read: Read, name: str, domid: Domid, *, end: int = _U32_END) -> int:
    text = read(name)
    if text is None or not text.isascii() or not text.isdigit():
        raise GuestError(domid, f"its node {name} is no number: {text!r}")
    if len(text) > 10 or int(text) >= end:
        raise GuestError(domid, f"its node {name} is too large: {text}")
    return int(text)
