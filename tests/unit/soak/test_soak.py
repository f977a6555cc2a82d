# SPDX-License-Identifier: GPL-2.0-or-later
"""How a guest's end is judged, and what is said of it."""

import json
import os
import sys
import threading
from collections import deque

import pytest

from soak import boots, hypercalls, running, userfuzz, versions
from soak.__main__ import minutes_of
from soak.results import Result, cpu_facts, parse, report
from soak.running import Ended, run_guest


def ended(
    *lines: str, status: int = 0, was_ended: bool = False, messages: str = ""
) -> Ended:
    return Ended(status, was_ended, 1.5, lines, messages)


_END = "fuzz: end, 12 rounds, 345 attempts"


def test_a_guest_that_is_alive_is_ok() -> None:
    assert userfuzz.judge(ended("fuzz: calls:1", _END, "done")) == ("ok", 345)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (ended("fuzz: calls:1"), "status 0, after calls:1"),
        (ended(status=1), "status 1, after nothing"),
        (ended("fuzz: fpu:7", was_ended=True), "no end, after fpu:7"),
        (
            ended("fuzz: fpu:7", "[ 1] kernel BUG at mm.c:3!", _END),
            "[ 1] kernel BUG at mm.c:3!, after end, 12 rounds, 345 attempts",
        ),
    ],
)
def test_any_other_is_not(how: Ended, why: str) -> None:
    assert userfuzz.judge(how) == (why, 0)


_CRASH = "domain 1 crashed: no stack\n"


@pytest.mark.parametrize(
    ("how", "mode", "why"),
    [
        (ended(status=1, messages=_CRASH), "", ""),
        (ended(status=1, messages=_CRASH * 2), "", "more than one"),
        (ended(status=3), "", "status 3"),
        (ended(status=1, messages="Traceback (most"), "wild", "Python failed"),
        (ended(status=-1, was_ended=True), "wild", "did not end"),
        (ended(was_ended=True), "", "no end"),
        (ended(was_ended=True), "wild", ""),
        (ended(status=1, messages="BUG in emu: x"), "wild", "BUG in emu"),
        (ended(status=1, messages="BUG in emu: x"), "wild scribble", ""),
    ],
)
def test_a_kernel_may_end_itself(how: Ended, mode: str, why: str) -> None:
    judged = hypercalls.judge(how, mode)
    assert why in judged
    assert bool(why) == bool(judged)


def test_a_line_can_be_read_again() -> None:
    result = Result(
        "p", "c", 60.0, 7, "guests", "ok", {"seed": 3}, "2026-01-02", "x", "y"
    )
    assert json.loads(result.to_json())["seed"] == 3
    assert parse(result.to_json()) == result
    assert (
        result.to_row() == "| 2026-01-02 | p/c | x | y | 60 | 7 guests | ok |"
    )


def test_the_kind_of_kvm_is_the_processors() -> None:
    text = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm\n"
    assert cpu_facts(text) == ("hardware", "AMD")
    assert cpu_facts(text.replace("svm", "de")) == ("software", "AMD")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (ended("soak: up with 2"), ""),
        (ended("soak: up with 1"), "init has not run on both"),
        (ended(status=1), "status 1"),
        (ended("soak: up with 2", was_ended=True), "no end"),
        (ended("Kernel panic - not", status=1), "Kernel panic - not"),
    ],
    ids=["good", "lost-vcpu", "crash", "hangs", "panic"],
)
def test_a_boot_is_good_or_told_why_not(how: Ended, why: str) -> None:
    assert boots.wrong(how) == why


def test_minutes_are_some() -> None:
    assert minutes_of("0.5") == 0.5
    for word in ("abc", "", "0", "-1", "nan", "inf"):
        with pytest.raises(ValueError, match="not a number of minutes"):
            minutes_of(word)


def test_what_did_nothing_is_not_ok(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = report("a/b", lambda: Result("a", "b", 1.0, 0, "boots", "ok"))
    assert result is not None
    assert not result.is_ok
    assert json.loads(capsys.readouterr().out)["outcome"] == "nothing was done"


def test_nothing_stays_of_a_guest_that_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(deque[str]):
        def append(self, line: str) -> None:
            raise KeyboardInterrupt(line)

    monkeypatch.setattr(running, "deque", Interrupted)
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt) as interrupted:
        run_guest([sys.executable, "-c", program], most_s=600, name="a")
    for timer in set(threading.enumerate()) - before:
        timer.join(20)
    assert set(threading.enumerate()) == before
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(interrupted.value)), 0)


def test_the_oldest_trio_is_pyprojects() -> None:
    assert versions.oldest("trio") == "0.22"
    with pytest.raises(LookupError):
        versions.oldest("no-such-package")
