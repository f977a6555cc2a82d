# SPDX-License-Identifier: GPL-2.0-or-later
"""How many lines may be told that somebody else provokes."""

from __future__ import annotations

import time
from collections.abc import Callable


class LineBudget:
    """So many at once and so many a second; those beyond are counted."""

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

    def may_tell(self) -> bool:
        """May one more be told? One that may not is counted."""
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
        """How many were left out since this was asked last."""
        nr_dropped, self._nr_dropped = self._nr_dropped, 0
        return nr_dropped
