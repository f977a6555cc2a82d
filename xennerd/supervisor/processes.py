# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that are watched, children of ours or not."""

from __future__ import annotations

import os
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path

import trio

_UCRED = struct.Struct("3i")


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


def listener_of(
    path: Path, kind: socket.SocketKind = socket.SOCK_STREAM
) -> int | None:
    """Who listens on a Unix socket: unix(7)'s SO_PEERCRED of a connection is
    the listener's. None: nobody does."""
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
            raw = probe.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size
            )
        except OSError:
            return None
    return int(_UCRED.unpack(raw)[0]) or None
