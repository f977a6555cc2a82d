# SPDX-License-Identifier: GPL-2.0-or-later
"""What a benchmark says: JSON for machines, a table for people."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal


class AbsentError(Exception):
    """A case cannot be measured here; str() says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """One case. `ours` and `peer` are medians in `unit`."""

    bench: str
    case: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    better: Literal["lower", "higher"]
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The line for machines; ratio is ours/peer."""
        return json.dumps(
            {
                "bench": self.bench,
                "case": self.case,
                "ours": round(self.ours, 6),
                "peer": round(self.peer, 6),
                "peer_name": self.peer_name,
                "ratio": round(self.ours / self.peer, 4),
                "unit": self.unit,
                "better": self.better,
                **self.extra,
            }
        )

    def to_row(self) -> str:
        """The line for people."""
        return (
            f"{self.bench:8} {self.case:28} {self.ours:12.4g} "
            f"{self.peer:12.4g} {self.unit:8} {self.ours / self.peer:8.3f}  "
            f"{self.better} is better, peer: {self.peer_name}"
        )


def in_turn(
    ours: Callable[[], float], peer: Callable[[], float], *, rounds: int
) -> tuple[list[float], list[float]]:
    """Measure both alternately, so that noise of the machine meets both."""
    pairs = [(ours(), peer()) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def result_from_lab(case: str) -> Result:
    """What `python -m bench CASE` measures in the lab machine."""
    done = subprocess.run(
        [sys.executable, "-m", "lab", "run", "--", f"python3 -m bench {case}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [x for x in done.stdout.splitlines() if x.startswith("{")]
    if done.returncode != 0 or not lines:
        raise AbsentError(f"the lab machine ended with {done.returncode}")
    values = json.loads(lines[-1])
    del values["ratio"]
    names = [item.name for item in fields(Result) if item.name != "extra"]
    known = {name: values.pop(name) for name in names}
    return Result(**known, extra=values)


def report(
    bench: str, case: str, measure: Callable[[], Result]
) -> Result | None:
    """Measure, print the JSON line; None, said aloud, where it is absent."""
    print(f"{bench}/{case}: measuring", file=sys.stderr, flush=True)
    try:
        result = measure()
    except AbsentError as reason:
        print(f"{bench}/{case}: absent: {reason}", file=sys.stderr)
        return None
    print(result.to_json(), flush=True)
    return result
