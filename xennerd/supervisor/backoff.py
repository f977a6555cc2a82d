# SPDX-License-Identifier: GPL-2.0-or-later
"""When to restart a program that ended. Pure."""

_FIRST_S = 0.2
_MOST_S = 30.0
_SOUND_S = 10.0


class Backoff:
    """No delay after a long life; after short ones, a longer delay each
    time."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def delay_s(self, lived_s: float) -> float:
        """The delay after a life of `lived_s` seconds."""
        if lived_s >= _SOUND_S:
            self._next_s = 0.0
        delay_s = self._next_s
        self._next_s = min(max(2 * delay_s, _FIRST_S), _MOST_S)
        return delay_s
