# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that are watched, children of ours or not."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import trio


class Watched:
    """A process, by a pidfd: its number is never another's."""

    def __init__(self, pid: int) -> None:
        """ProcessLookupError: there is none."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    async def wait_ended(self) -> None:
        """pidfd_open(2): it is readable when the process has ended."""
        await trio.lowlevel.wait_readable(self._fd)

    def signal(self, number: signal.Signals) -> None:
        """One that has ended is fine."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        """Watch it no longer."""
        os.close(self._fd)
