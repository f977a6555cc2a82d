# SPDX-License-Identifier: GPL-2.0-or-later
"""A limit on log lines that somebody else provokes."""

from __future__ import annotations

import time
from collections.abc import Callable


class LineBudget:
    """A token bucket of log lines. Counts the lines that it refuses."""

    def __init__(
        self,
        *,
        burst: int,
        per_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` counts seconds."""
        self._burst = float(burst)
        self._per_s = per_s
        self._clock = clock
        self._credit = self._burst
        self._at_s = clock()
        self._nr_dropped = 0

    def take(self) -> bool:
        """Take one line out of the budget; False: it is refused, and
        counted."""
        now_s = self._clock()
        gained = (now_s - self._at_s) * self._per_s
        self._credit = min(self._burst, self._credit + gained)
        self._at_s = now_s
        if self._credit < 1:
            self._nr_dropped += 1
            return False
        self._credit -= 1
        return True

    def take_dropped(self) -> int:
        """The number of lines refused since the last call."""
        nr_dropped, self._nr_dropped = self._nr_dropped, 0
        return nr_dropped
