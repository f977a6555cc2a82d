# SPDX-License-Identifier: GPL-2.0-or-later
"""The service manager's watchdog, sd_watchdog_enabled(3), fed by progress.

It hears of us each time when the daemon has proved that it serves, by going
the way that a client's request goes. One that hangs is not heard of any more,
and is started again.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping

import trio

from xenner.service import notify

_SHARE = 3
"""So often within the time that the service manager waits."""


def watchdog_s(environment: Mapping[str, str], *, pid: int) -> float | None:
    """How long it waits for us, seconds; None: nobody does. Pure."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdigit() and int(text) else None


async def feed_watchdog(prove: Callable[[], Awaitable[object]]) -> None:
    """Until cancelled, or at once if nobody waits.

    `prove` returns when the daemon has served something; it may raise what it
    likes where that is worth an end of the daemon.
    """
    limit_s = watchdog_s(os.environ, pid=os.getpid())
    if limit_s is None:
        return
    while True:
        await prove()
        notify("WATCHDOG=1")
        await trio.sleep(limit_s / _SHARE)
