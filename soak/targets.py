# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzz targets (tests/targets), each as long as one likes. What reaches
something new stays in build/soak/fuzz, for the next run and for --keep."""

import re
import tempfile
import time
from pathlib import Path

from soak.results import Result
from tests.targets.keeping import SOAKED
from tests.targets.running import NAMES, fuzz, unpack

PART = "fuzz"
CASES = NAMES


def run(name: str, minutes: float) -> Result:
    """One target, or as much of it as there is before it fails."""
    began = time.monotonic()
    inputs = SOAKED / name
    unpack(name, inputs)
    with tempfile.TemporaryDirectory() as made:
        ended = fuzz(
            name,
            Path(made),
            f"-max_total_time={int(minutes * 60) or 1}",
            *("-print_final_stats=1", "-verbosity=0", str(inputs)),
            limit_s=minutes * 60 + 600,
        )
    count = re.search(r"number_of_executed_units: (\d+)", ended.said)
    outcome = "ok"
    if ended.status:
        outcome = f"status {ended.status}: {ended.line}"
    return Result(
        PART, name, time.monotonic() - began, int(count[1]) if count else 0,
        "inputs", outcome, {"said": ended.said[-3000:]} if ended.status else {},
    )  # fmt: skip
