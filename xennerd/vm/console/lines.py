# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's console as lines of the log, for whoever reads those. Pure, but
for the log: what a guest writes is cut, escaped and counted."""

from __future__ import annotations

import codecs
import logging
import time
from collections.abc import Callable

from xenner.linebudget import LineBudget

MAX_CHARACTERS = 1024
"""A longer line is several."""

_BURST_LINES = 1000
_LINES_PER_S = 100.0

_log = logging.getLogger("xenner.guest")


class ConsoleLines:
    """Collects what the guest writes, tells it line by line.

    A guest may write as much and whatever it likes: of more than the limit
    only the number is told, and no control character gets through.
    """

    def __init__(
        self,
        tell: Callable[[str], None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` counts seconds."""
        self._tell = tell or _tell
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._budget = LineBudget(
            burst=_BURST_LINES, per_s=_LINES_PER_S, clock=clock
        )

    def write(self, data: bytes) -> None:
        """More of what the guest has said."""
        *whole, self._text = (self._text + self._decoder.decode(data)).split(
            "\n"
        )
        for line in whole:
            self._take(line)
        while len(self._text) > MAX_CHARACTERS:
            self._take(self._text[:MAX_CHARACTERS])
            self._text = self._text[MAX_CHARACTERS:]

    def close(self) -> None:
        """What has no end of line is told as well."""
        self._take(self._text + self._decoder.decode(b"", final=True))
        self._text = ""
        self._tell_dropped()

    def _take(self, line: str) -> None:
        line = line.strip("\r")
        for start in range(0, len(line), MAX_CHARACTERS):
            part = printable(line[start : start + MAX_CHARACTERS])
            if self._budget.take():
                self._tell_dropped()
                self._tell(part)

    def _tell_dropped(self) -> None:
        if nr_dropped := self._budget.take_dropped():
            self._tell(f"({nr_dropped} lines too many are left out)")


def printable(text: str) -> str:
    """With all that a terminal would obey spelled out: `\\x1b`."""
    return "".join(
        c
        if c.isprintable() or c == "\t"
        else c.encode("unicode_escape").decode()
        for c in text
    )


def _tell(line: str) -> None:
    # No arguments, which the journal's handler would send once more.
    _log.info(line, extra={"XENNER_DEVICE": "console"})


def let_lines_through() -> None:
    """They are no warnings, which is what a guest's process tells else."""
    _log.setLevel(logging.INFO)
