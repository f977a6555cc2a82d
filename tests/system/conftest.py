# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of whole systems share: commands, and units of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.environments import programs
from tests.guests.build import guest_path
from tests.system.commands import Units, run


@pytest.fixture(autouse=True)
def started_seldom() -> None:
    """Each test starts the same daemons: together more often than systemd
    lets one, five times in ten seconds."""
    run("systemctl", "reset-failed")


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
