# SPDX-License-Identifier: GPL-2.0-or-later
"""What ran: one JSON line per test, written while pytest runs.

A test's line is a Result's fields. The last line, {"status": n}, is pytest's
exit status; a record without it was cut off.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import TextIO

import pytest

from tests.environments.rules import floor_of

LEFT_OUT = "left out"
# xennerd/vm says so of a guest that ended in one.
_TRIPLE_FAULT = "crashed: triple fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one test ended.

    `outcome` is "passed", "failed" or "skipped", `reason` why it was skipped.
    `left_out` has what a guest said of checks that it did not make, which no
    outcome shows: recorded as the property LEFT_OUT. `is_lost`: it failed, and
    what it said has a guest's triple fault in it.
    """

    test: str
    floor: str
    outcome: str
    seconds: float
    reason: str = ""
    left_out: tuple[str, ...] = ()
    is_lost: bool = False


def read_record(text: str) -> tuple[list[Result], int | None]:
    """Results, and pytest's exit status, None if it is missing.

    Of a last line that was cut off nothing is read. ValueError if another one
    is no JSON.
    """
    results: list[Result] = []
    status = None
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        entry = json.loads(line)
        if "status" in entry:
            status = entry["status"]
        else:
            entry["left_out"] = tuple(entry["left_out"])
            results.append(Result(**entry))
    return results, status


def skip_reason(report: pytest.TestReport) -> str:
    """What the test said when it was skipped."""
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail}"
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)


@dataclass(slots=True)
class _Run:
    """What is known of a test whose phases are not yet all over."""

    outcome: str = "passed"
    seconds: float = 0.0
    reason: str = ""
    left_out: tuple[str, ...] = ()
    is_lost: bool = False


@dataclass(slots=True, eq=False)  # pluggy hashes its plugins
class Recorder:
    """A pytest plugin that writes the record to `file`."""

    file: TextIO
    _running: dict[str, _Run] = field(default_factory=dict)
    _not_collected: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown of a test make one line."""
        run = self._running.setdefault(report.nodeid, _Run())
        run.seconds += report.duration
        if report.failed:
            run.outcome = "failed"
            run.is_lost |= _TRIPLE_FAULT in report.longreprtext
        elif report.skipped and run.outcome == "passed":
            run.outcome, run.reason = "skipped", skip_reason(report)
        # Each phase's report has those of the phases before it.
        run.left_out = tuple(
            str(value)
            for name, value in report.user_properties
            if name == LEFT_OUT
        )
        # A worker of pytest-xdist that died has no phase and no teardown.
        if report.when not in ("setup", "call"):
            self._end(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported is a failure with its name."""
        # Each worker of pytest-xdist says it.
        if report.failed and report.nodeid not in self._not_collected:
            self._not_collected.add(report.nodeid)
            self._running[report.nodeid] = _Run("failed")
            self._end(report.nodeid)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """The line by which a reader knows that this is all."""
        for test, run in list(self._running.items()):
            run.outcome = "failed"
            self._end(test)
        self._write({"status": int(exitstatus)})

    def pytest_unconfigure(self) -> None:
        """Nothing comes after this."""
        self.file.close()

    def _end(self, test: str) -> None:
        run = self._running.pop(test)
        path = PurePath(test.split("::")[0])
        inside = path.relative_to("tests") if "tests" in path.parts else path
        result = Result(
            test=test,
            floor=floor_of(inside) or "other",
            outcome=run.outcome,
            seconds=round(run.seconds, 3),
            reason=run.reason if run.outcome == "skipped" else "",
            left_out=run.left_out,
            is_lost=run.is_lost,
        )
        self._write(asdict(result))

    def _write(self, entry: dict[str, object]) -> None:
        # Each line at once: whoever ends this process still has the others.
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()


def open_recorder(path: Path) -> Recorder:
    """A recorder that starts `path` anew. OSError if it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return Recorder(path.open("w"))
