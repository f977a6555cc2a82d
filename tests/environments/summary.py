# SPDX-License-Identifier: GPL-2.0-or-later
"""What ran in all environments, as a table for people and a verdict."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.environments.record import Result
from tests.environments.rules import FLOORS, Environment

_OUTCOMES = ("passed", "failed", "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One environment's run.

    `problem` says why the environment could not be used or did not come to its
    end; it is empty when pytest did. `seconds` is the time from start to end.
    `lost` are the tests that were run once more; see rerun.py.
    """

    environment: Environment
    results: tuple[Result, ...] = ()
    seconds: float = 0.0
    problem: str = ""
    lost: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Nothing failed, and everything had its chance to."""
        return not self.problem and not any(
            result.outcome == "failed" for result in self.results
        )


def _cell(results: Sequence[Result], seconds: float) -> str:
    """Like "12 passed, 1 skipped, 3 s"; "-" where nothing ran."""
    if not results:
        return "-"
    counts = Counter(result.outcome for result in results)
    parts = [f"{counts[word]} {word}" for word in _OUTCOMES if counts[word]]
    return ", ".join([*parts, f"{seconds:.0f} s"])


def _rows(runs: Sequence[Ran]) -> list[list[str]]:
    """Table cells, head and foot included."""
    seen = {result.floor for ran in runs for result in ran.results}
    floors = [floor for floor in FLOORS if floor in seen]
    rows = [["floor", *(ran.environment.value for ran in runs)]]
    for floor in [*floors, *sorted(seen - set(FLOORS))]:
        row = [floor]
        for ran in runs:
            here = [result for result in ran.results if result.floor == floor]
            row.append(_cell(here, sum(result.seconds for result in here)))
        rows.append(row)
    foot = ["all"]
    for ran in runs:
        whole = _cell(ran.results, ran.seconds)
        foot.append(f"{whole}, BROKEN" if ran.problem else whole)
    return [*rows, foot]


def render_table(runs: Sequence[Ran]) -> str:
    """Floors by environments. A floor's seconds are its tests' sum, the last
    row's the time that the environment took."""
    rows = _rows(runs)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _list(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def verdict(runs: Sequence[Ran]) -> str:
    """The last line of all: "12 passed, 0 failed", and what was skipped. A
    environment that could not run, or not to its end, is one that failed."""
    counts = Counter(result.outcome for ran in runs for result in ran.results)
    counts["failed"] += sum(bool(ran.problem) for ran in runs)
    words = ("passed", "failed", *(["skipped"] if counts["skipped"] else []))
    return ", ".join(f"{counts[word]} {word}" for word in words)


def render(runs: Sequence[Ran]) -> str:
    """The table; then what guests left out, each skip with its reason, each
    failure, each environment that was not what it should be, and the
    verdict."""
    each = [(ran.environment, result) for ran in runs for result in ran.results]
    skipped = [
        f"{environment}: {result.test}: {result.reason}"
        for environment, result in each
        if result.outcome == "skipped"
    ]
    failed = [
        f"{environment}: {result.test}"
        for environment, result in each
        if result.outcome == "failed"
    ]
    lost = [f"{ran.environment}: {test}" for ran in runs for test in ran.lost]
    # Once for all flavours and ways to boot the same guest.
    left_out = dict.fromkeys(
        f"{environment}: {line}"
        for environment, result in each
        for line in result.left_out
    )
    broken = [
        line
        for ran in runs
        if ran.problem
        for line in f"{ran.environment}: {ran.problem}".splitlines()
    ]
    return "\n".join(
        [
            render_table(runs),
            *_list("left out inside guests", list(left_out)),
            *_list("skipped", skipped),
            *_list("lost by the environment's KVM, and run once more", lost),
            *_list("failed", failed),
            *_list("could not run, or not to the end", broken),
            "",
            verdict(runs),
        ]
    )
