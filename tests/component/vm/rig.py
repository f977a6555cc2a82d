# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner` with the tiny kernel."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.environments.rules import limit_s


@dataclass(frozen=True, slots=True)
class Rig:
    """Starts `xenner` with the tiny kernel, in a directory of its own."""

    runtime_dir: Path
    kernel: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, letter: str, *options: str) -> list[str]:
        return [
            *(sys.executable, "-m", "xennerd.standalone", "-m", "16"),
            *("-kernel", str(self.kernel), "-append", letter),
            *("-runtime-dir", str(self.runtime_dir), *options),
        ]

    def start(
        self,
        letter: str,
        *options: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """A process that the test ends, or else the rig does."""
        process = subprocess.Popen(
            self.command(letter, *options),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def reap(self) -> None:
        """End what a test that failed has left running."""
        for process in self.started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def run(
        self, letter: str, *options: str, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end, which must come soon."""
        return subprocess.run(
            self.command(letter, *options),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s(30),
            check=False,
            env={**os.environ, **environment},
        )

    def left(self) -> list[str]:
        return sorted(path.name for path in self.runtime_dir.iterdir())
