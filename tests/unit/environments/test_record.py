# SPDX-License-Identifier: GPL-2.0-or-later
"""The record of what ran: from pytest's reports to lines and back."""

from io import StringIO
from typing import Any, Literal

import pytest

from tests.environments.record import Recorder, Result, read_record

TEST = "tests/kvm/test_guests.py::test_guest[canary.high-default]"
Phase = Literal["setup", "call", "teardown"]


class Lines(StringIO):
    """A file whose text is still there after it was closed."""

    text = ""

    def close(self) -> None:
        self.text = self.getvalue()
        super().close()


def phase(
    when: Phase,
    outcome: Literal["passed", "failed", "skipped"] = "passed",
    longrepr: Any = None,
    *,
    test: str = TEST,
) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=test,
        location=("", None, ""),
        keywords={},
        outcome=outcome,
        longrepr=longrepr,
        when=when,
        duration=0.25,
    )


def record_of(*reports: pytest.TestReport) -> list[Result]:
    file = Lines()
    recorder = Recorder(file)
    for report in reports:
        recorder.pytest_runtest_logreport(report)
    recorder.pytest_sessionfinish(1)
    recorder.pytest_unconfigure()
    results, status = read_record(file.text)
    assert status == 1
    return results


def test_three_phases_are_one_test() -> None:
    (result,) = record_of(phase("setup"), phase("call"), phase("teardown"))
    assert result == Result(
        test=TEST, floor="kvm", outcome="passed", seconds=0.75
    )


def test_what_a_guest_left_out_is_told() -> None:
    reports = [phase("setup"), phase("call"), phase("teardown")]
    said = [("left out", "iret: no such selector"), ("other", "thing")]
    for report in reports[1:]:
        report.user_properties = list(said)
    (result,) = record_of(*reports)
    assert result.outcome == "passed"
    assert result.left_out == ("iret: no such selector",)


def test_a_skip_has_its_reason() -> None:
    why = ("conftest.py", 7, "Skipped: kvm: /dev/kvm: Permission denied")
    (result,) = record_of(phase("setup", "skipped", why), phase("teardown"))
    assert result.outcome == "skipped"
    assert result.reason == "kvm: /dev/kvm: Permission denied"


@pytest.mark.parametrize("bad", ["setup", "call", "teardown"])
def test_any_phase_can_fail(bad: str) -> None:
    phases: tuple[Phase, ...] = ("setup", "call", "teardown")
    (result,) = record_of(
        *(phase(when, "failed" if when == bad else "passed") for when in phases)
    )
    assert result.outcome == "failed"


def test_a_skip_whose_teardown_fails_is_a_failure() -> None:
    why = ("test.py", 7, "Skipped: no")
    (result,) = record_of(
        phase("setup"),
        phase("call", "skipped", why),
        phase("teardown", "failed"),
    )
    assert (result.outcome, result.reason) == ("failed", "")


def test_tests_may_be_interleaved() -> None:
    """As they are with pytest-xdist."""
    other = "tests/system/test_devices.py::test_kvm_answers"
    first, second = record_of(
        phase("setup"),
        phase("setup", test=other),
        phase("call", "failed"),
        phase("call", test=other),
        phase("teardown", test=other),
        phase("teardown"),
    )
    assert (first.floor, first.outcome) == ("system", "passed")
    assert (second.floor, second.outcome) == ("kvm", "failed")


def test_a_worker_that_died_is_a_failure() -> None:
    crashed = phase("call", "failed")
    crashed.when = "???"  # type: ignore[assignment]  # as xdist has it
    (result,) = record_of(crashed)
    assert result.outcome == "failed"


def test_a_test_that_never_ended_is_a_failure() -> None:
    (result,) = record_of(phase("setup"))
    assert result.outcome == "failed"


def test_a_file_that_cannot_be_imported_is_one_failure() -> None:
    file = Lines()
    recorder = Recorder(file)
    for _worker in range(2):
        recorder.pytest_collectreport(
            pytest.CollectReport(
                nodeid="tests/unit/vm/test_clock.py",
                outcome="failed",
                longrepr="ImportError",
                result=None,
            )
        )
    recorder.pytest_unconfigure()
    (result,), status = read_record(file.text)
    assert (result.floor, result.outcome) == ("unit", "failed")
    assert status is None


def test_a_record_that_was_cut_off() -> None:
    file = Lines()
    recorder = Recorder(file)
    for when in ("setup", "call", "teardown"):
        recorder.pytest_runtest_logreport(phase(when))
    recorder.pytest_unconfigure()
    whole = file.text
    assert read_record(whole)[1] is None
    assert read_record(whole + '{"stat') == read_record(whole)
    with pytest.raises(ValueError):
        read_record("nonsense\n")
