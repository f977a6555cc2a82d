# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes that a frontend writes, whatever its device is. Reads nothing by
itself: a function gives each node's value."""

from __future__ import annotations

from collections.abc import Callable

from xenner.errors import GuestError
from xenner.types import Domid

Read = Callable[[str], str | None]

_U32_END = 1 << 32


def read_number(
    read: Read, name: str, domid: Domid, *, end: int = _U32_END
) -> int:
    """A number below `end`. GuestError: it is none."""
    text = read(name)
    if text is None or not text.isascii() or not text.isdigit():
        raise GuestError(domid, f"its node {name} is no number: {text!r}")
    if len(text) > 10 or int(text) >= end:
        raise GuestError(domid, f"its node {name} is too large: {text}")
    return int(text)


def queue_prefixes(read: Read, domid: Domid, *, max_queues: int) -> list[str]:
    """Before the names of each queue's nodes; those of one queue that is
    alone are the device's own (io/blkif.h, io/netif.h). GuestError."""
    count = 1
    if read("multi-queue-num-queues") is not None:
        count = read_number(
            read, "multi-queue-num-queues", domid, end=max_queues + 1
        )
    if count == 0:
        raise GuestError(domid, "it has no queues")
    if count == 1:
        return [""]
    return [f"queue-{i}/" for i in range(count)]
