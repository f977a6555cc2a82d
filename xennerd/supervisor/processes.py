# SPDX-License-Identifier: GPL-2.0-or-later
"""Watch processes, our children or not."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import trio


class Watched:
    """A process, held by a pidfd: its number cannot be reused."""

    def __init__(self, pid: int) -> None:
        """ProcessLookupError: there is none."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    async def wait_ended(self) -> None:
        """pidfd_open(2): it is readable when the process has ended."""
        await trio.lowlevel.wait_readable(self._fd)

    def signal(self, number: signal.Signals) -> None:
        """Signal the process; does nothing if it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)
