# SPDX-License-Identifier: GPL-2.0-or-later
"""Reconnect to an evtchnd that restarts."""

from contextlib import suppress

import trio

from xenner.concurrency import run_abandonable
from xenner.evtchn import Evtchnd


async def keep_connected(evtchnd: Evtchnd) -> None:
    """Reconnect whenever the connection is lost, until cancelled."""
    while True:
        await trio.lowlevel.wait_readable(evtchnd.fileno())
        with suppress(OSError):
            await run_abandonable(evtchnd.reconnect_if_lost)
