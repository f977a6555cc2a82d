# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of whole systems share: commands, and units of their own."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.guests.build import guest_path
from tests.places import programs
from tests.places.rules import limit_s


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


@pytest.fixture(autouse=True)
def started_seldom() -> None:
    """Each test starts the same daemons: together more often than systemd
    lets one, five times in ten seconds."""
    run("systemctl", "reset-failed")


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


@pytest.fixture
def units() -> Iterator[Units]:
    """Units of which nothing is left: a failed one makes the system
    `degraded` for all tests that follow."""
    units = Units()
    yield units
    for name in units.started:
        run("systemctl", "stop", name)
        run("systemctl", "reset-failed", name)


@pytest.fixture(scope="session")
def canary() -> str:
    """The guest that says whether a rig is worth anything."""
    programs.guests()
    return str(guest_path("canary", "high"))
