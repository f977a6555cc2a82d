# SPDX-License-Identifier: GPL-2.0-or-later
"""SCHEDOP_watchdog: a guest's kernel or its programs (xenwatchdogd) have the
domain ended with SHUTDOWN_watchdog unless they come back in time.

The timers run here and not in emu: they are for a guest that is out of order,
and they are set once in some seconds. Their answers are Xen's
(domain_watchdog() in its common/sched/core.c).
"""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import trio

NR_TIMERS = 2
"""NR_DOMAIN_WATCHDOG_TIMERS of Xen's sched.h."""


class Watchdogs:
    """The timers of one domain, from a start of day on.

    perform() is called by vCPUs' threads, wait_expired() runs in trio. While
    the domain is paused they stand still: Xen's go on.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._deadlines_s: list[float | None] = [None] * NR_TIMERS
        self._paused_s: float | None = None
        self._changed = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    def perform(self, request: Any) -> None:
        """EMU_REQUEST_WATCHDOG: struct sched_watchdog in arg[0], arg[1]."""
        request.result = self.set(
            int(request.arg[0]) & 0xFFFFFFFF, int(request.arg[1]) & 0xFFFFFFFF
        )
        self._tell()

    def set(self, number: int, timeout_s: int) -> int:
        """Number 0 creates a watchdog and returns its number; others set it
        again, or remove it with a timeout of 0. Negative: Xen's errno."""
        with self._lock:
            if number == 0:
                if None not in self._deadlines_s:
                    return -errno.ENOSPC
                number = self._deadlines_s.index(None) + 1
                self._deadlines_s[number - 1] = self._now_s() + timeout_s
                return number
            if number > NR_TIMERS or self._deadlines_s[number - 1] is None:
                return -errno.EINVAL
            self._deadlines_s[number - 1] = (
                self._now_s() + timeout_s if timeout_s else None
            )
            return 0

    def left_s(self) -> float | None:
        """Until the first one expires; None: none will."""
        with self._lock:
            set_s = [at for at in self._deadlines_s if at is not None]
            if not set_s or self._paused_s is not None:
                return None
            return max(0.0, min(set_s) - self._now_s())

    def pause(self) -> None:
        """The domain does not run."""
        with self._lock:
            if self._paused_s is None:
                self._paused_s = self._now_s()
        self._tell()

    def resume(self) -> None:
        """It does again."""
        with self._lock:
            if self._paused_s is None:
                return
            lost_s = self._now_s() - self._paused_s
            self._paused_s = None
            self._deadlines_s = [
                None if at is None else at + lost_s for at in self._deadlines_s
            ]
        self._tell()

    async def wait_expired(self) -> None:
        """Wait until a watchdog ends the guest."""
        self._token = trio.lowlevel.current_trio_token()
        while True:
            self._changed = trio.Event()
            left_s = self.left_s()
            if left_s == 0:
                return
            with trio.move_on_after(math.inf if left_s is None else left_s):
                await self._changed.wait()

    def _tell(self) -> None:
        # Any thread may pause, and any answer. A guest may ask faster
        # than trio looks.
        if self._token is not None:
            self._token.run_sync_soon(self._look, idempotent=True)

    def _look(self) -> None:
        self._changed.set()
