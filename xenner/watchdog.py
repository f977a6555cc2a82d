# SPDX-License-Identifier: GPL-2.0-or-later
"""Feed the service manager's watchdog, sd_watchdog_enabled(3), after health
checks.

A health check sends a request as a client would, and returns with the reply. A
daemon that hangs passes none, so the service manager restarts it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping

import trio

from xenner.service import notify

_SHARE = 3
"""Health checks within the service manager's time limit."""


def watchdog_s(environment: Mapping[str, str], *, pid: int) -> float | None:
    """The watchdog's time limit, seconds; None: it is off. Pure."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdigit() and int(text) else None


async def feed_watchdog(check_health: Callable[[], Awaitable[object]]) -> None:
    """Run until cancelled; return at once if the watchdog is off.

    `check_health` returns when the daemon has served a request. An exception
    from it ends the daemon.
    """
    limit_s = watchdog_s(os.environ, pid=os.getpid())
    if limit_s is None:
        return
    while True:
        await check_health()
        notify("WATCHDOG=1")
        await trio.sleep(limit_s / _SHARE)
