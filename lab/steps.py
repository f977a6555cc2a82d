# SPDX-License-Identifier: GPL-2.0-or-later
"""Long work: one line per step with its time, the output of what fails."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError

_SHOWN_LINES = 30


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print `name`, and at the end of the block how long it took."""
    print(f"lab: {name:<9} ", end="", file=sys.stderr, flush=True)
    began = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", file=sys.stderr, flush=True)
        raise
    took_s = time.monotonic() - began
    print(f"{took_s:6.1f} s", file=sys.stderr, flush=True)


def run_quietly(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    Raises LabError with the end of what it printed if its status is not 0 or
    it is not installed.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise LabError(f"{name} is not installed: make setup") from error
    if done.returncode != 0:
        text = "\n".join(
            (done.stdout + done.stderr).splitlines()[-_SHOWN_LINES:]
        )
        raise LabError(f"{name} failed, status {done.returncode}\n{text}")
    return done.stdout
