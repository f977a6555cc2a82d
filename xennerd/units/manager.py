# SPDX-License-Identifier: GPL-2.0-or-later
"""Start and query guests' units, and log their events."""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple, Protocol

from xenner.errors import HostError
from xenner.journal import Line, Subject, log_event

# systemd.unit(5); all else is escaped (unitname.py).
_ESCAPED = r"\\x[0-9a-f]{2}"
_INSTANCE = re.compile(
    rf"(?:[A-Za-z0-9_.:]|{_ESCAPED})(?:[A-Za-z0-9_.:-]|{_ESCAPED})*"
)
_PREFIX, _SUFFIX = "xenner@", ".service"


class Outcome(NamedTuple):
    """systemd's ActiveState and Result of a unit."""

    state: str
    result: str


class Units(Protocol):
    """Calls block, and may be made in several threads."""

    def start(self, instance: str) -> None:
        """Return when the guest runs. HostError: the start failed."""

    def outcome(self, instance: str) -> Outcome:
        """A unit's state and result. HostError: the query failed."""

    def log_event(self, instance: str, subject: Subject, line: Line) -> None:
        """Log an event of that unit, which journald accepts from root only
        (journalctl(1), --unit)."""


class Systemd:
    """systemd itself; requires root."""

    def start(self, instance: str) -> None:
        done = _systemctl("start", unit_of(instance))
        if done.returncode:
            raise HostError(
                done.stderr.strip().partition("\n")[0],
                f"journalctl -u {_PREFIX}{instance}",
            )

    def outcome(self, instance: str) -> Outcome:
        done = _systemctl("show", "-pActiveState,Result", unit_of(instance))
        # systemd chooses the order.
        shown = dict(
            line.split("=", 1)
            for line in done.stdout.splitlines()
            if "=" in line
        )
        return Outcome(shown.get("ActiveState", ""), shown.get("Result", ""))

    def log_event(self, instance: str, subject: Subject, line: Line) -> None:
        unit = {"OBJECT_SYSTEMD_UNIT": unit_of(instance)}
        log_event(line.event, line.text, subject, **unit, **line.fields())


def is_instance(text: str) -> bool:
    """Can a unit have that name?"""
    return _INSTANCE.fullmatch(text) is not None


def unit_of(instance: str) -> str:
    return f"{_PREFIX}{instance}{_SUFFIX}"


def instance_of(unit: str) -> str:
    """The instance of a xenner@ unit; empty for any other unit."""
    instance = unit.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return instance if unit == unit_of(instance) else ""


def _systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, check=False
    )
