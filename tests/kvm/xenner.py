# SPDX-License-Identifier: GPL-2.0-or-later
"""A xenner process to its end."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environments.rules import limit_s

# Anything that hung is killed with this and shows as a test's failure.
_KILL_S = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of xenner: exit status, console, messages."""

    status: int
    console: str
    messages: str

    @property
    def lines(self) -> list[str]:
        """Console lines without their ends."""
        return self.console.replace("\r\n", "\n").splitlines()

    def failures(self) -> list[str]:
        """What the guest itself found wrong."""
        return [line for line in self.lines if line.startswith("FAIL ")]

    def report(self) -> str:
        """For the message of a failed test."""
        tail = "\n".join(self.lines[-40:])
        return f"status {self.status}\n{tail}\n--\n{self.messages[-3000:]}"


@dataclass(frozen=True, slots=True)
class Xenner:
    """Starts xenner processes whose files are in a directory of their own."""

    runtime_dir: Path

    def command(self, kernel: Path, *options: str) -> list[str]:
        """The command line, for tests that hold the process themselves."""
        return [
            sys.executable,
            "-m",
            "xennerd.standalone",
            "-kernel",
            str(kernel),
            "-runtime-dir",
            str(self.runtime_dir),
            "-nographic",
            *options,
        ]

    def run(
        self, kernel: Path, *options: str, timeout_s: float = 60
    ) -> Outcome:
        """Run to the end. Fails the test when that does not come in time,
        which is `timeout_s` on the host."""
        timeout_s = limit_s(timeout_s)
        with subprocess.Popen(
            self.command(kernel, *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                try:
                    out, err = process.communicate(timeout=limit_s(_KILL_S))
                except subprocess.TimeoutExpired:
                    process.kill()
                    out, err = process.communicate()
                outcome = Outcome(-1, _text(out), _text(err))
                pytest.fail(f"no end in {timeout_s} s\n{outcome.report()}")
        return Outcome(process.returncode, _text(out), _text(err))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
