# SPDX-License-Identifier: GPL-2.0-or-later
"""top's screen: the table as far as the window has room for it, and keys that
move it."""

from __future__ import annotations

import curses
import locale
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xenner.errors import HostError

_SIDE_STEP = 8
_END_KEYS = (ord("q"), ord("Q"))
_NO_KEY = -1


@dataclass(frozen=True, slots=True)
class View:
    """The first row and column of the table that are seen; its heading is
    none of the rows."""

    row: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Size:
    """Of the table without its heading, or of the window below that."""

    rows: int
    columns: int


def moved(view: View, key: int, *, table: Size, window: Size) -> View:
    """What is seen after a key, or when a size has changed: the last row and
    column stay at the window's edge. Pure."""
    row, column = {
        curses.KEY_UP: (view.row - 1, view.column),
        curses.KEY_DOWN: (view.row + 1, view.column),
        curses.KEY_PPAGE: (view.row - window.rows, view.column),
        curses.KEY_NPAGE: (view.row + window.rows, view.column),
        curses.KEY_HOME: (0, 0),
        curses.KEY_END: (table.rows, view.column),
        curses.KEY_LEFT: (view.row, view.column - _SIDE_STEP),
        curses.KEY_RIGHT: (view.row, view.column + _SIDE_STEP),
    }.get(key, (view.row, view.column))
    return View(
        max(0, min(row, table.rows - window.rows)),
        max(0, min(column, table.columns - window.columns)),
    )


def show(
    tables: Iterator[Sequence[str]], *, delay_s: float, iterations: int
) -> None:
    """One table after the other, each a heading and rows, until `q`, Ctrl-C,
    or so many; 0: for ever. HostError: the terminal has no screen."""
    # Names are what they are, in the user's own character set.
    locale.setlocale(locale.LC_CTYPE, "")
    try:
        curses.wrapper(_run, tables, delay_s, iterations)
    except curses.error as error:
        raise HostError(f"terminal: {error}", "top -b needs none") from error
    except KeyboardInterrupt:
        return


def _run(
    screen: curses.window,
    tables: Iterator[Sequence[str]],
    delay_s: float,
    iterations: int,
) -> None:
    view = View()
    for nr_shown, table in enumerate(tables, 1):
        view = _draw(screen, table, view)
        if nr_shown == iterations:
            return
        end_s = time.monotonic() + delay_s
        while (left_s := end_s - time.monotonic()) > 0:
            screen.timeout(max(1, int(left_s * 1000)))
            key = screen.getch()
            # One that has been hung up gives no more keys.
            if key in _END_KEYS or (key == _NO_KEY and not os.isatty(0)):
                return
            # A window of another size comes as a key too.
            view = _draw(screen, table, view, key)


def _draw(
    screen: curses.window, table: Sequence[str], view: View, key: int = _NO_KEY
) -> View:
    nr_lines, nr_columns = screen.getmaxyx()
    width = max(map(len, table))
    view = moved(
        view,
        key,
        table=Size(len(table) - 1, width),
        window=Size(nr_lines - 1, nr_columns),
    )
    # What is on a pad is clipped, and no line of it is the window's last one,
    # whose last cell cannot be written.
    pad = curses.newpad(len(table), width + 1)
    for number, line in enumerate(table):
        pad.addstr(number, 0, line, curses.A_REVERSE if number == 0 else 0)
    screen.erase()
    screen.noutrefresh()
    pad.noutrefresh(0, view.column, 0, 0, 0, nr_columns - 1)
    if nr_lines > 1:
        pad.noutrefresh(
            *(1 + view.row, view.column),
            *(1, 0),
            *(nr_lines - 1, nr_columns - 1),
        )
    curses.doupdate()
    return view
