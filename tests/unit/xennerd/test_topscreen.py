# SPDX-License-Identifier: GPL-2.0-or-later
"""`xennerctl top` at a terminal: a window on its table."""

from __future__ import annotations

import curses
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from tests.environments.rules import limit_s
from xennerd.ctl.topscreen import Size, View, moved

_PROGRAM = """
import fcntl, sys, termios
# Who is resized or interrupted is the terminal's own session.
if sys.stdin.isatty():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from xenner.types import Domid
from xennerd.ctl import top
from xennerd.ctl.__main__ import main
from xennerd.ctl.domains import Domain
guests = tuple(
    Domain(Domid(n), f"guest{n}", memory_mib=n, max_memory_mib=64)
    for n in range(20)
)
top.take_sample = lambda paths: top.Sample(float(0), guests, {}, {})
sys.exit(main(["top", *sys.argv[1:]]))
"""
_TABLE, _WINDOW = Size(20, 150), Size(5, 40)


@pytest.mark.parametrize(
    ("view", "key", "seen"),
    [
        (View(), curses.KEY_UP, View()),
        (View(), curses.KEY_DOWN, View(1)),
        (View(15), curses.KEY_DOWN, View(15)),
        (View(3), curses.KEY_NPAGE, View(8)),
        (View(13), curses.KEY_NPAGE, View(15)),
        (View(3, 8), curses.KEY_PPAGE, View(0, 8)),
        (View(3, 8), curses.KEY_HOME, View()),
        (View(3, 8), curses.KEY_END, View(15, 8)),
        (View(3, 8), curses.KEY_LEFT, View(3)),
        (View(3), curses.KEY_RIGHT, View(3, 8)),
        (View(3, 108), curses.KEY_RIGHT, View(3, 110)),
        (View(3, 8), ord("x"), View(3, 8)),
    ],
)
def test_keys_move_it_within_the_table(
    view: View, key: int, seen: View
) -> None:
    assert moved(view, key, table=_TABLE, window=_WINDOW) == seen


def test_a_window_that_grows_shows_more() -> None:
    window = Size(18, 200)
    key = curses.KEY_RESIZE
    assert moved(View(15, 110), key, table=_TABLE, window=window) == View(2)
    window = Size(100, 200)
    assert moved(View(15, 110), key, table=_TABLE, window=window) == View()


class Terminal:
    """A VT52, of which terminfo(5) says little enough to be made here."""

    def __init__(self, *words: str, lines: int = 6, columns: int = 40) -> None:
        self._ours, self._theirs = os.openpty()
        self._cells: dict[tuple[int, int], str] = {}
        self._row = self._column = 0
        self._unread = ""
        self.resize(lines, columns)
        self.before = termios.tcgetattr(self._ours)
        environment = {**os.environ, "TERM": "vt52"}
        for name in ("LINES", "COLUMNS"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *words],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            env=environment,
        )

    def resize(self, lines: int, columns: int) -> None:
        self._nr_lines = lines
        size = struct.pack("4H", lines, columns, 0, 0)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def wait_for(self, is_there: Callable[[list[str]], bool]) -> None:
        """Until the window looks so."""
        end_s = time.monotonic() + limit_s(20)
        while not is_there(self.window):
            left_s = max(0.0, end_s - time.monotonic())
            assert select.select([self._ours], [], [], left_s)[0], self.window
            self._show(os.read(self._ours, 4096).decode())

    @property
    def window(self) -> list[str]:
        return [
            "".join(
                self._cells.get((row, column), " ") for column in range(200)
            ).rstrip()
            for row in range(self._nr_lines)
        ]

    def _show(self, text: str) -> None:
        text = self._unread + text
        while text:
            length = 1
            if text[0] == "\x1b":
                length = 4 if text[1:2] == "Y" else 2
            if len(text) < length:
                break
            self._obey(text[:length])
            text = text[length:]
        self._unread = text

    def _obey(self, text: str) -> None:
        match text:
            case "\r":
                self._column = 0
            case "\n" | "\x1bB":
                self._row += 1
            case "\b" | "\x1bD":
                self._column -= 1
            case "\t":
                self._column += 8 - self._column % 8
            case "\x1bA" | "\x1bI":
                self._row -= 1
            case "\x1bC":
                self._column += 1
            case "\x1bH":
                self._row = self._column = 0
            case "\x1bJ" | "\x1bK":
                here = (self._row, self._column)
                self._cells = {
                    cell: shown
                    for cell, shown in self._cells.items()
                    if cell < here or (text[1] == "K" and cell[0] != here[0])
                }
            case _ if text[0] == "\x1b":
                if len(text) == 4:
                    self._row, self._column = (ord(c) - 32 for c in text[2:])
            case _ if text.isprintable():
                self._cells[self._row, self._column] = text
                self._column += 1

    def ended(self) -> int:
        """The status, when the terminal is as it was."""
        while self.process.poll() is None:
            if select.select([self._ours], [], [], 0.1)[0]:
                self._show(os.read(self._ours, 4096).decode())
        assert termios.tcgetattr(self._ours) == self.before
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(*words: str) -> Terminal:
        made.append(Terminal(*words))
        return made[-1]

    yield make
    for each in made:
        each.close()


def names(window: list[str]) -> list[str]:
    return [line.split()[0] for line in window[1:] if line]


def guests(first: int, end: int) -> list[str]:
    return [f"guest{n}" for n in range(first, end)]


def test_it_clips_scrolls_and_follows_the_window(
    terminal: Callable[..., Terminal],
) -> None:
    top = terminal("-d", "3600")
    heading = "      NAME  STATE   CPU(sec) CPU(%)"
    top.wait_for(lambda seen: (seen[0], names(seen)) == (heading, guests(0, 5)))
    # Down, twice; then to the right.
    top.type(b"\x1bB\x1bB")
    top.wait_for(lambda seen: (seen[0], names(seen)) == (heading, guests(2, 7)))
    top.type(b"\x1bC")
    cut = ["t2", "t3", "t4", "t5", "t6"]
    heading = "ME  STATE   CPU(sec) CPU(%)     MEM(k) M"
    top.wait_for(lambda seen: (seen[0], names(seen)) == (heading, cut))
    top.type(b"\x1bD")
    top.resize(12, 60)
    heading = "      NAME  STATE   CPU(sec) CPU(%)     MEM(k) MEM(%)  MAXME"
    top.wait_for(
        lambda seen: (seen[0], names(seen)) == (heading, guests(2, 13))
    )
    top.type(b"q")
    assert top.ended() == 0


@pytest.mark.parametrize("words", [("-i", "1"), ("-d", "3600")])
def test_it_ends(
    terminal: Callable[..., Terminal], words: tuple[str, ...]
) -> None:
    top = terminal(*words)
    if "-d" in words:
        top.wait_for(lambda window: names(window) == guests(0, 5))
        # Ctrl-C.
        top.type(b"\x03")
    assert top.ended() == 0


def test_no_screen_where_there_is_no_keyboard() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "-i", "1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert names(done.stdout.splitlines()) == guests(0, 20)
    assert "\x1b" not in done.stdout
