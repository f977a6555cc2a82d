# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab container's console: what it says when nothing else can speak."""

import errno
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

_SHOWN_LINES = 25
_LONGEST_LINE = 4096


class Console:
    """The last lines that were written to a terminal.

    `path` is the terminal, `output` the same, open, for the first process that
    writes to it: close it when that has it.
    """

    def __init__(self, terminal: BinaryIO, output: BinaryIO) -> None:
        self.path = os.ttyname(output.fileno())
        self.output = output
        self._lines: deque[bytes] = deque(maxlen=_SHOWN_LINES)
        self._reader = threading.Thread(target=self._read, args=[terminal])
        self._reader.start()

    def last_lines(self) -> str:
        """For messages. Waits until nobody has the terminal open."""
        self.wait_end()
        lines = [line.decode(errors="replace").strip() for line in self._lines]
        return "\n".join(["-- console:", *lines])

    def wait_end(self) -> None:
        """Wait until the last process that has the terminal open is gone."""
        self._reader.join()

    def _read(self, terminal: BinaryIO) -> None:
        line = b""
        while piece := _read_piece(terminal):
            *whole, line = (line + piece).split(b"\n")
            self._lines.extend(filter(bytes.strip, whole))
            line = line[-_LONGEST_LINE:]
        self._lines.extend(filter(bytes.strip, [line]))


def _read_piece(terminal: BinaryIO) -> bytes:
    """What has been written; empty when nobody has the other end open."""
    try:
        return os.read(terminal.fileno(), 4096)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise


@contextmanager
def open_console() -> Iterator[Console]:
    """A console; at the block's end it waits for those who have it open."""
    ours, theirs = os.openpty()
    with (
        open(ours, "rb", buffering=0) as terminal,
        open(theirs, "wb", buffering=0) as output,
    ):
        console = Console(terminal, output)
        try:
            yield console
        finally:
            output.close()
            console.wait_end()
