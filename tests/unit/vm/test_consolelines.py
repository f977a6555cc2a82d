# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest says on its console, as lines of the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennerd.vm.console.lines import MAX_CHARACTERS, ConsoleLines, printable


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def lines_of(*pieces: bytes) -> list[str]:
    told: list[str] = []
    lines = ConsoleLines(told.append, clock=Clock())
    for piece in pieces:
        lines.write(piece)
    lines.close()
    return told


def test_lines() -> None:
    assert lines_of(b"one\r\ntwo\n", b"thr", b"ee\n\nlogin: ") == [
        *("one", "two", "three", "login: "),
    ]


def test_a_character_in_two_pieces() -> None:
    assert lines_of(b"gr\xc3", b"\xbcn\n") == ["grün"]
    assert lines_of(b"\xff\xfe\n", b"\xc3") == [
        "\N{REPLACEMENT CHARACTER}" * 2
    ] + ["\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb\x00\x7f", "a\\rb\\x00\\x7f"),
        ("tab\there", "tab\there"),
        ("\u202etxt.exe\u2028", "\\u202etxt.exe\\u2028"),
    ],
)
def test_nothing_that_a_terminal_obeys(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_lines_are_cut_and_not_kept() -> None:
    told = lines_of(b"x" * 3000, b"y" * 10)
    assert [len(line) for line in told] == [1024, 1024, 962]
    assert "".join(told) == "x" * 3000 + "y" * 10


def test_too_many_are_counted() -> None:
    told: list[str] = []
    clock = Clock()
    lines = ConsoleLines(told.append, clock=clock)
    lines.write(b"spam\n" * 5000)
    assert told == ["spam"] * 1000
    clock.now_s += 0.5
    lines.write(b"more\n" * 60)
    assert told[1000] == "(4000 lines too many are left out)"
    assert told[1001:] == ["more"] * 50
    lines.close()
    assert told[-1] == "(10 lines too many are left out)"


@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_whatever_it_writes(pieces: list[bytes]) -> None:
    told = lines_of(*pieces)
    assert len(told) <= 1002
    for line in told:
        assert all(c.isprintable() or c == "\t" for c in line)
        # Escaped, a character has ten at most.
        assert 0 < len(line) <= MAX_CHARACTERS * 10
