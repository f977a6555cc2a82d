# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/clock: how far a guest's wall clock gets from the host's.

A guest says its time every five seconds, over XENNER_CLOCK_S seconds (600 is
what SPECIFICATION.md promises; a minute otherwise). What it says arrives late,
by the console's delay and by ours on a busy machine, never early: of the
samples of half a minute the one that was heard soonest counts.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from bench.machines import TOP, initramfs, ours_command, running
from bench.results import Result, median

_LIMIT_MS = 50.0
_NR_TOGETHER = 6


def offset() -> Result:
    """The largest distance, against what is promised."""
    length_s = float(os.environ.get("XENNER_CLOCK_S", "60"))
    found_ms: list[float] = []
    with (
        initramfs(_program()) as initrd,
        running(ours_command(initrd, todo="run")) as guest,
    ):
        end_s = time.monotonic() + length_s
        while time.monotonic() < end_s:
            # The limit of a wait counts from here.
            guest.started_at = time.monotonic()
            guest.console = guest.console.rpartition(b"CLOCK-")[2]
            guest.wait_for(b"CLOCK-")
            guest.wait_for(b"-\r\n")
            now_s = time.time()
            match = re.search(rb"CLOCK-([0-9.]+)-", guest.console)
            assert match is not None, guest.console[-200:]
            found_ms.append((float(match[1]) - now_s) * 1e3)
    soonest_ms = [
        max(found_ms[at : at + _NR_TOGETHER])
        for at in range(0, len(found_ms), _NR_TOGETHER)
    ]
    return Result(
        "clock",
        "offset",
        max(map(abs, soonest_ms)),
        _LIMIT_MS,
        "promised",
        "ms",
        "lower",
        {
            "length_s": length_s,
            "samples": len(found_ms),
            "first_ms": round(soonest_ms[0], 3),
            "last_ms": round(soonest_ms[-1], 3),
            "median_ms": round(median(soonest_ms), 3),
            "latest_ms": round(min(found_ms), 3),
        },
    )


def _program() -> bytes:
    with tempfile.TemporaryDirectory(prefix="xenner-bench.") as name:
        program = Path(name) / "clock"
        subprocess.run(
            ["cc", "-O2", "-static", "-o", program, TOP / "bench/clock.c"],
            check=True,
        )
        return program.read_bytes()


CASES = {"offset": offset}
