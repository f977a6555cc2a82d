# SPDX-License-Identifier: GPL-2.0-or-later
"""Run pytest in an environment: one process, streamed, and its record read."""

import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from tests.environments.record import read_record
from tests.environments.rules import Environment, floors_in
from tests.environments.summary import Ran

TOP = Path(__file__).resolve().parents[2]
OUTPUT = TOP / "build/check"
# What may not be missing there; what the host has is the caller's to say.
_REQUIRED = {
    Environment.CONTAINER: "kvm,root",
    Environment.MACHINE: "kernel,kvm,root",
}
_LIMITS_S = {Environment.CONTAINER: 600, Environment.MACHINE: 1800}
# The machine's run when all that needs /dev/kvm runs there.
_ALL_LIMIT_S = 2400
# Seldom a processor of the machine does not come back from a guest (KVM under
# TCG: docs/lab.md). No test there is silent for so long.
_SILENCE_S = 240
_CLEANUP_S = 60
_SHOWN_LINES = 12
_POLL_S = 0.5
_NORMAL_ENDS = {
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A command that runs pytest in `environment` and leaves `record`."""

    environment: Environment
    command: Sequence[str]
    record: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    silence_s: float | None = None
    """After so long without output the environment stands still."""


class StillError(Exception):
    """Nothing came for longer than anything takes."""


def _pytest_variables(required: str) -> dict[str, str]:
    variables = {"XENNER_REQUIRE": required}
    if sys.stdout.isatty():
        # Its output goes through a pipe, but to this terminal.
        variables["PY_COLORS"] = "1"
    return variables


def host_job(arguments: Sequence[str], *, required: str) -> Job:
    """pytest here. `required` is XENNER_REQUIRE's value."""
    record = OUTPUT / "host/record.jsonl"
    return Job(
        environment=Environment.HOST,
        command=[
            *(sys.executable, "-m", "pytest", f"--record={record}"),
            *arguments,
        ],
        record=record,
        variables={
            "XENNER_PLACE": Environment.HOST,
            **_pytest_variables(required),
        },
    )


def lab_job(
    environment: Environment,
    arguments: Sequence[str],
    *,
    host_kvm: bool,
    required: str | None = None,
) -> Job:
    """pytest in a lab, which copies the tree there and the record back.

    Where the arguments name no file: the floors that have tests there.
    """
    output = OUTPUT / environment
    required = _REQUIRED[environment] if required is None else required
    wanted = [*arguments]
    if not any((TOP / word.split("::")[0]).exists() for word in arguments):
        # What the other floors import need not be there.
        floors = floors_in(environment, host_kvm=host_kvm)
        wanted += [f"tests/{floor}" for floor in floors]
    options = [f"--host-kvm={'yes' if host_kvm else 'no'}"]
    text = shlex.join([*options, *wanted])
    variables = shlex.join(
        f"{name}={value}" for name, value in _pytest_variables(required).items()
    )
    limit_s = _LIMITS_S[environment]
    if environment is Environment.MACHINE and not host_kvm:
        limit_s = _ALL_LIMIT_S
    return Job(
        environment=environment,
        command=[
            *(sys.executable, "-m", "lab", "run"),
            *("--where", environment, "--limit-s", str(limit_s)),
            *("--out", str(output), "--"),
            f"env {variables} python3 -m pytest "
            f'--record="$LAB_OUT/record.jsonl" {text}',
        ],
        record=output / "record.jsonl",
        silence_s=_SILENCE_S if environment is Environment.MACHINE else None,
    )


def _pieces(
    process: subprocess.Popen[bytes], silence_s: float | None
) -> Iterator[bytes]:
    """What a process prints, until it has ended: somebody whom it left
    behind may hold the other end of its pipe for ever."""
    assert process.stdout is not None
    fd = process.stdout.fileno()
    heard_at = time.monotonic()
    while True:
        ready, _, _ = select.select([fd], [], [], _POLL_S)
        if ready:
            if not (piece := os.read(fd, 1 << 16)):
                return
            yield piece
            heard_at = time.monotonic()
        elif process.poll() is not None:
            return
        elif silence_s and time.monotonic() - heard_at > silence_s:
            raise StillError


def _stream(
    process: subprocess.Popen[bytes],
    target: IO[bytes],
    silence_s: float | None,
) -> list[str]:
    """Copy as it comes; the last lines, for whoever has to explain."""
    kept: deque[bytes] = deque(maxlen=_SHOWN_LINES)
    line = b""
    for piece in _pieces(process, silence_s):
        target.write(piece)
        target.flush()
        *whole, line = (line + piece).split(b"\n")
        kept.extend(whole)
    return [
        text.decode(errors="replace").rstrip()
        for text in [*kept, line]
        if text.strip()
    ]


def run_job(job: Job, output: IO[bytes]) -> Ran:
    """As _run_once; an environment that stands still is said and started once
    more."""
    try:
        return _run_once(job, output)
    except StillError:
        output.write(b"\n== it stands still: once more from the start ==\n")
        output.flush()
    try:
        return _run_once(job, output)
    except StillError:
        problem = f"stood still for {job.silence_s:.0f} s, twice"
        return Ran(environment=job.environment, problem=problem)


def _run_once(job: Job, output: IO[bytes]) -> Ran:
    """Run to the end, with what it prints going to `output`.

    Whatever goes wrong in the environment or on the way to it is the result's
    `problem`. KeyboardInterrupt comes through when the process, which got it
    as well, has cleaned up.
    """
    job.record.parent.mkdir(parents=True, exist_ok=True)
    job.record.unlink(missing_ok=True)
    began = time.monotonic()
    with subprocess.Popen(
        job.command,
        cwd=TOP,
        env={**os.environ, **job.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            last_lines = _stream(process, output, job.silence_s)
        except KeyboardInterrupt:
            process.wait()
            raise
        except StillError:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_CLEANUP_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    seconds = time.monotonic() - began
    text = job.record.read_text() if job.record.exists() else ""
    results, status = read_record(text)
    problem = _problem(status, process.returncode)
    if problem:
        problem = "\n".join([problem, *last_lines[-_SHOWN_LINES:]])
    return Ran(
        environment=job.environment,
        results=tuple(results),
        seconds=seconds,
        problem=problem,
    )


def _problem(status: int | None, returned: int) -> str:
    """From pytest's own status and that of the process around it."""
    if status is None:
        return f"pytest did not come to its end, status {returned}:"
    if status not in _NORMAL_ENDS:
        return f"pytest ended with status {status}:"
    if returned != status:
        return f"pytest ended with {status}, the environment with {returned}:"
    return ""
