# SPDX-License-Identifier: GPL-2.0-or-later
"""The PV console's shared page: struct xencons_interface of io/console.h.

The guest may write anything there at any time: every index is read once and
checked, and no more than a ring is ever copied.
"""

from xenner import abi

_OUT, *_COUNTERS = (
    abi.offsetof("xencons_interface", field)
    for field in ("out", "in_cons", "in_prod", "out_cons", "out_prod")
)
IN_BYTES = _OUT
OUT_BYTES = _COUNTERS[0] - _OUT
# Indices of the four counters, in 32-bit words.
_IN_CONS, _IN_PROD, _OUT_CONS, _OUT_PROD = (at // 4 for at in _COUNTERS)
_MASK = (1 << 32) - 1


class ConsoleRing:
    """The host's end of one console ring at `gpa` in a mapped vmcore."""

    def __init__(self, memory: memoryview, gpa: int) -> None:
        self._page = memory[gpa : gpa + 4096]
        # A view of words: each counter is read and written in one piece.
        self._words = self._page.cast("I")
        memory.release()
        self.nr_bad_indices = 0
        """Times that the guest claimed more bytes than the ring holds."""

    def release(self) -> None:
        """Let go of the memory; the ring is not used again."""
        self._words.release()
        self._page.release()

    def has_output(self) -> bool:
        """Is there anything to take?"""
        return self._words[_OUT_CONS] != self._words[_OUT_PROD]

    def take_output(self) -> bytes:
        """What the guest has written since the last call; frees its room."""
        cons, prod = self._words[_OUT_CONS], self._words[_OUT_PROD]
        count = (prod - cons) & _MASK
        if count > OUT_BYTES:
            self.nr_bad_indices += 1
            self._words[_OUT_CONS] = prod
            return b""
        start = cons % OUT_BYTES
        first = min(count, OUT_BYTES - start)
        data = bytes(self._page[_OUT + start : _OUT + start + first])
        data += bytes(self._page[_OUT : _OUT + count - first])
        self._words[_OUT_CONS] = (cons + count) & _MASK
        return data

    def put_input(self, data: bytes) -> int:
        """Give the guest as much as fits; returns how many bytes that was."""
        cons, prod = self._words[_IN_CONS], self._words[_IN_PROD]
        used = (prod - cons) & _MASK
        if used > IN_BYTES:
            self.nr_bad_indices += 1
            return 0
        count = min(len(data), IN_BYTES - used)
        for i in range(count):
            self._page[(prod + i) % IN_BYTES] = data[i]
        self._words[_IN_PROD] = (prod + count) & _MASK
        return count
