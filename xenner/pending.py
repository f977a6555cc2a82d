# SPDX-License-Identifier: GPL-2.0-or-later
"""Notify a guest from outside: struct emu_pending of abi/emu.h."""

from __future__ import annotations

import mmap
import os
from contextlib import ExitStack
from typing import Any

from xenner import abi
from xenner._abi import lib
from xenner.types import Port


class Pending:
    """The pending bits of one guest, in memory that its owner keeps mapped.

    `event_fd` is what the guest's irqfd reads; it stays the owner's as well.
    """

    def __init__(self, memory: Any, offset: int, event_fd: int) -> None:
        """`memory` is writable and has the structure at `offset` bytes."""
        self._view = abi.view("emu_pending", memory, offset)
        self._memory = memory
        self._event_fd = event_fd

    def notify(self, port: Port) -> None:
        """Make `port` pending, and have the guest look."""
        if not 0 < port < abi.EMU_NR_EVTCHN:
            raise ValueError(f"no guest has a port {port}")
        lib.notify_guest(self._view, port, self._event_fd)


class MappedPending(Pending):
    """The same through descriptors that evtchnd handed out."""

    def __init__(self, page_fd: int, offset: int, event_fd: int) -> None:
        """Takes both descriptors over. OSError if it cannot be mapped."""
        with ExitStack() as on_fail:
            on_fail.callback(os.close, event_fd)
            on_fail.callback(os.close, page_fd)
            start = offset - offset % mmap.PAGESIZE
            size_bytes = offset - start + abi.sizeof("emu_pending")
            self._map = mmap.mmap(page_fd, size_bytes, offset=start)
            on_fail.pop_all()
        os.close(page_fd)
        super().__init__(self._map, offset - start, event_fd)

    def close(self) -> None:
        """Let go of the memory and the descriptor."""
        self._map.close()
        os.close(self._event_fd)
