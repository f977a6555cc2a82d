# SPDX-License-Identifier: GPL-2.0-or-later
"""The form of all benchmarks' output, and what is read from others."""

import json
import os
import subprocess
import sys

import pytest

from bench.boot import CASES, pss_beyond
from bench.machines import parse_statistics, tsc_khz
from bench.results import AbsentError, Result, in_turn, report


def result() -> Result:
    return Result(
        "boot", "tcg", 2.0, 4.0, "peer", "s", "lower", {"kvm": "software"}
    )


def test_json_line_has_the_agreed_keys() -> None:
    line = json.loads(result().to_json())
    assert line == {
        "bench": "boot",
        "case": "tcg",
        "ours": 2.0,
        "peer": 4.0,
        "peer_name": "peer",
        "ratio": 0.5,
        "unit": "s",
        "better": "lower",
        "kvm": "software",
    }


def test_only_json_goes_to_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report("boot", "tcg", result)
    out, err = capsys.readouterr()
    assert [json.loads(line)["case"] for line in out.splitlines()] == ["tcg"]
    assert "measuring" in err


def test_absent_case_prints_no_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def absent() -> Result:
        raise AbsentError("no lab")

    assert report("boot", "lab-kvm", absent) is None
    out, err = capsys.readouterr()
    assert out == ""
    assert "absent: no lab" in err


def lab_that_prints(
    monkeypatch: pytest.MonkeyPatch, text: str, status: int
) -> None:
    def run(
        command: list[str], **_: object
    ) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "lab", "run"]
        return subprocess.CompletedProcess(command, status, stdout=text)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("XENNER_PLACE", raising=False)


def test_lab_case_is_measured_in_the_lab(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = Result(
        *("boot", "lab-kvm", 2.0, 4.0, "qemu", "s", "lower"),
        extra={"ours_all_s": [2.0]},
    )
    lab_that_prints(monkeypatch, f"noise\n{there.to_json()}\n", 0)
    assert CASES["lab-kvm"]() == there


@pytest.mark.parametrize(("text", "status"), [("", 0), ("{}", 125)])
def test_lab_case_is_absent_without_a_lab(
    monkeypatch: pytest.MonkeyPatch, text: str, status: int
) -> None:
    lab_that_prints(monkeypatch, text, status)
    with pytest.raises(AbsentError):
        CASES["lab-kvm"]()


def test_ours_and_peer_alternate() -> None:
    calls = []

    def ours() -> float:
        calls.append("ours")
        return 1.0

    def peer() -> float:
        calls.append("peer")
        return 2.0

    assert in_turn(ours, peer, rounds=2) == ([1.0, 1.0], [2.0, 2.0])
    assert calls == ["ours", "peer", "ours", "peer"]


def test_statistics_are_the_last_json_line() -> None:
    text = 'warning\n{"traps": 1}\n{"traps": 2}\nend\n'
    assert parse_statistics(text) == {"traps": 2}
    with pytest.raises(ValueError, match="no statistics"):
        parse_statistics("warning\n")


def test_rate_of_the_tsc() -> None:
    console = b"[    0.000245] tsc: Detected 2596.148 MHz processor\r\n"
    assert tsc_khz(console) == 2596148
    with pytest.raises(ValueError, match="TSC"):
        tsc_khz(b"no such line")


def test_process_without_guest_memory_is_not_measured() -> None:
    assert sys.executable
    with pytest.raises(ValueError, match="no guest memory"):
        pss_beyond(os.getpid())
