# SPDX-License-Identifier: GPL-2.0-or-later
"""Two runs at once, whose output is not mixed."""

from io import BytesIO
from threading import Event

import pytest

from tests.places.beside import HeldOutput, Output, beside
from tests.places.rules import Place
from tests.places.summary import Ran

LIMIT_S = 30


def test_what_is_held_comes_when_it_may_and_then_at_once() -> None:
    target = BytesIO()
    held = HeldOutput(target)
    held.write(b"one ")
    held.flush()
    assert target.getvalue() == b""
    held.write(b"two ")
    held.show()
    assert target.getvalue() == b"one two "
    held.write(b"three")
    assert target.getvalue() == b"one two three"


def test_both_run_at_once_and_the_foreground_is_seen_first() -> None:
    target, has_begun, may_end = BytesIO(), Event(), Event()

    def run(output: Output) -> Ran:
        output.write(b"beside")
        has_begun.set()
        assert may_end.wait(LIMIT_S)
        return Ran(place=Place.MACHINE, seconds=3)

    with beside(run, target) as wait:
        assert has_begun.wait(LIMIT_S)
        target.write(b"before, ")
        may_end.set()
        assert wait() == Ran(place=Place.MACHINE, seconds=3)
    assert target.getvalue() == b"before, beside"


def test_what_goes_wrong_beside_is_heard_of() -> None:
    def run(output: Output) -> Ran:
        raise FileNotFoundError("no lab")

    with (
        pytest.raises(FileNotFoundError, match="no lab"),
        beside(run, BytesIO()) as wait,
    ):
        wait()
