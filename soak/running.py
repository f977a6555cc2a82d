# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of a soak: run to its end, watched, its last words kept."""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from soak.results import AbsentError
from tests.environments.rules import limit_s

TOP = Path(__file__).resolve().parent.parent
_KEPT_LINES = 60
_PROGRESS_S = 20.0
# From being told to end to being killed.
_KILL_S = limit_s(20)
# What Linux says when something is wrong with it, and xenner of emu.
_WRONG = re.compile(
    r"kernel BUG at|Oops|BUG: |BUG in emu|general protection fault, "
    r"|Kernel panic|rcu: INFO|soft lockup|Traceback|emu itself was damaged"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a guest came to its end. `was_ended`: it did not by itself. `status`
    -1: not even when it was told to, and was killed."""

    status: int
    was_ended: bool
    seconds: float
    lines: tuple[str, ...]
    messages: str

    def wrong(self) -> str:
        """The first line that says that something is wrong, or nothing."""
        for line in (*self.lines, *self.messages.splitlines()):
            if _WRONG.search(line):
                return line.strip()
        return ""


def command(kernel: Path, *options: str | Path) -> list[str]:
    """xenner; AbsentError where it cannot run."""
    if not os.access("/dev/kvm", os.W_OK):
        raise AbsentError("no usable /dev/kvm")
    return [
        sys.executable,
        "-m",
        "xennerd.standalone",
        "-kernel",
        str(kernel),
    ] + [str(option) for option in options]


def run_guest(arguments: list[str], *, most_s: float, name: str) -> Ended:
    """Run it in a runtime directory of its own, progress on standard error.

    A guest that is not through within the limit is asked to end, then killed.
    """
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    began = told = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="soak.", dir="/dev/shm") as runtime,
        tempfile.TemporaryFile("w+") as errors,
    ):
        process = subprocess.Popen(
            [*arguments, "-runtime-dir", runtime],
            cwd=TOP,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="backslashreplace",
        )
        limits = [
            threading.Timer(most_s, process.terminate),
            threading.Timer(most_s + _KILL_S, process.kill),
        ]
        for limit in limits:
            limit.start()
        assert process.stdout is not None
        try:
            for line in process.stdout:
                kept.append(line.rstrip())
                if time.monotonic() - told > _PROGRESS_S:
                    told = time.monotonic()
                    print(
                        f"{name}: {told - began:.0f} s, {kept[-1]}",
                        file=sys.stderr,
                        flush=True,
                    )
            status = process.wait()
            was_ended, was_killed = (not limit.is_alive() for limit in limits)
        finally:
            # Also of one that a person interrupts nothing stays.
            for limit in limits:
                limit.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        errors.seek(0)
        text = errors.read()
    return Ended(
        -1 if was_killed else status,
        was_ended,
        time.monotonic() - began,
        tuple(kept),
        text,
    )


def explain(ended: Ended) -> None:
    """For a person who has to find out what happened."""
    print(*ended.lines[-30:], sep="\n", file=sys.stderr)
    print(ended.messages[-6000:], file=sys.stderr)
