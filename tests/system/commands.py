# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands, and units of a test's own."""

from __future__ import annotations

import json
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests.environments.rules import limit_s


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its status."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s(30),
    )


def output_of(*command: str) -> str:
    """Standard output of a program that must succeed."""
    done = run(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def status_of(pid: int | str) -> dict[str, str]:
    """A process's, by the names of proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = (line.split(":", 1) for line in lines)
    return {name: value.strip() for name, value in fields}


@dataclass(frozen=True, slots=True)
class Units:
    """Runs commands as transient services."""

    started: list[str] = field(default_factory=list)

    def run(
        self, *command: str, options: tuple[str, ...] = ()
    ) -> tuple[str, subprocess.CompletedProcess[str]]:
        """The service's name, and systemd-run's end, which has its status."""
        name = f"xenner-test-{uuid.uuid4().hex[:8]}.service"
        self.started.append(name)
        return name, run(
            *("systemd-run", "--quiet", "--wait", f"--unit={name}"),
            *options,
            *command,
        )

    def journal(self, name: str) -> list[str]:
        """What journald has under the unit, in order."""
        output_of("journalctl", "--sync")
        listing = output_of(
            *("journalctl", "--output=json", "--output-fields=MESSAGE"),
            f"_SYSTEMD_UNIT={name}",
        )
        return [json.loads(line)["MESSAGE"] for line in listing.splitlines()]
