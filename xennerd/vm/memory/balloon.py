# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that the guest gives back to the host, and takes again.

The guest's page numbers stay its own: what is given back is what is behind
them. The vmcore gets holes, which read as zeros, and the tmpfs that it lies
on has so much more room. A page that another process has mapped stays until
that process lets go (xenner/vmcorelocks.py) and goes with a later request.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Any

from xenner import abi
from xenner.abi import ffi
from xenner.types import Mfn
from xennerd.vm.memory.layout import PAGE_BYTES, MachineLayout
from xennerd.vm.memory.vmcore import Vmcore

_MFN_BYTES = 8
_NR_RETRIED = 64


class Balloon:
    """EMU_REQUEST_BALLOON of one domain; called by its vCPUs' threads, one at
    a time."""

    def __init__(self, vmcore: Vmcore) -> None:
        self._vmcore = vmcore
        self.limit_bytes: int | None = None
        """The guest takes no more than this; what it has it keeps."""
        # Given back by the guest while somebody had them mapped.
        self._owed: dict[Mfn, None] = {}

    def perform(self, request: Any) -> None:
        """Answer a struct emu_request in place.

        The request is guest memory: its page numbers are copied once, and if
        one of them is not the domain's own nothing is done. The result is 0
        or one of Xen's errors, negative: -EINVAL, -ENOMEM if the host has no
        memory for the guest now.
        """
        what, length = int(request.arg[0]), int(request.length)
        if length > len(request.data) or length % _MFN_BYTES:
            request.result = -errno.EINVAL
            return
        data = bytes(ffi.buffer(request.data, length))
        try:
            mfns = guest_mfns(data, self._vmcore.layout)
        except ValueError:
            request.result = -errno.EINVAL
            return
        move = {
            abi.EMU_BALLOON_GIVE: self._give,
            abi.EMU_BALLOON_TAKE: self._take,
        }.get(what)
        if move is None:
            request.result = -errno.EINVAL
            return
        try:
            self._retry_owed()
            for first, nr_pages in runs(mfns):
                move(first, nr_pages)
        except OSError:
            request.result = -errno.ENOMEM
        else:
            request.result = 0

    def actual_bytes(self) -> int:
        """What of the guest's memory is there, by what the file has not got.

        tmpfs counts its pages exactly, also one that the guest touches again
        after it has given it back.
        """
        layout = self._vmcore.layout
        ranges = layout.ram_ranges()
        all_bytes = sum(size_bytes for _gpa, size_bytes in ranges)
        there_bytes = os.fstat(self._vmcore.fd).st_blocks * 512
        guest_bytes = layout.guest_nr_pages * PAGE_BYTES
        return min(guest_bytes, max(0, guest_bytes + there_bytes - all_bytes))

    def _give(self, first: Mfn, nr_pages: int) -> None:
        if self._vmcore.give_back(first * PAGE_BYTES, nr_pages * PAGE_BYTES):
            return
        for mfn in map(Mfn, range(first, first + nr_pages)):
            if not self._vmcore.give_back(mfn * PAGE_BYTES, PAGE_BYTES):
                self._owed[mfn] = None

    def _retry_owed(self) -> None:
        """Those that have waited longest; the rest go to the end."""
        for mfn in list(self._owed)[:_NR_RETRIED]:
            del self._owed[mfn]
            self._give(mfn, 1)

    def _take(self, first: Mfn, nr_pages: int) -> None:
        size_bytes = nr_pages * PAGE_BYTES
        if self.limit_bytes is not None:
            had_bytes = self.actual_bytes() - len(self._owed) * PAGE_BYTES
            if had_bytes + size_bytes > self.limit_bytes:
                raise OSError(errno.ENOMEM, "the domain's limit")
        for mfn in map(Mfn, range(first, first + nr_pages)):
            self._owed.pop(mfn, None)
        # Now, when it can be refused: the guest's access later cannot.
        os.posix_fallocate(self._vmcore.fd, first * PAGE_BYTES, size_bytes)


def guest_mfns(data: bytes, layout: MachineLayout) -> list[Mfn]:
    """The machine pages in a request; ValueError if one is not the guest's."""
    mfns = [
        Mfn(int.from_bytes(data[at : at + _MFN_BYTES], "little"))
        for at in range(0, len(data), _MFN_BYTES)
    ]
    memory = tuple(layout.extents(0, layout.guest_nr_pages))
    for mfn in mfns:
        if not any(e.mfn <= mfn < e.mfn + e.nr_pages for e in memory):
            raise ValueError(f"page {mfn:#x} is not the guest's")
    return mfns


def runs(mfns: Iterable[Mfn]) -> Iterator[tuple[Mfn, int]]:
    """(first page, number of pages) of what is consecutive, each page once."""
    first, count = Mfn(0), 0
    for mfn in sorted(set(mfns)):
        if count and mfn == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = mfn, 1
    if count:
        yield first, count
