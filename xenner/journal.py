# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's life in the journal: lines with fields and message ids.

Without a journal at the other end of standard error they are lines there.
systemd's module is imported where it is used: it takes a command that tells
nothing, or a guest started by hand, 20 ms.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from xenner.journallog import is_read_by_journal
from xenner.types import Domid

_IDENTIFIER = "xenner"


class Event(StrEnum):
    """Message ids; units/xenner.catalog has a text for each."""

    SHUTDOWN_REQUESTED = "8d0c9f6b2a714e43b1c6f50e7a3d9b28"
    CREATED = "e0f2ab9c0cbd4a14b4d3a6f1c37c9d58"
    RUNNING = "6fd80cbf5b0e4cb4b3f4b64bb2f0b2f1"
    ENDED = "2f1c5f52bf3b4a2c8c7c6a5e0a8b3d42"
    RESTARTED = "5b0b41fbf8e44e4d9b0f5c5f6d0d7c11"
    START_LIMIT_HIT = "c0d3b5c2f6c2485f8f9d2f7a7f9f1e52"
    CRASHED = "a97cf3c8a9e84c60b80c8f0b2f5f6f0d"
    DEVICE = "4b7d0c3f6a1e4f0f9d52c8e1b6a09374"


REQUESTS = {
    "shutdown": "is asked to shut down",
    "reboot": "is asked to reboot",
    "destroy": "is destroyed",
}
"""What a user can request, by xl's command."""


def request_line(what: str, user: str) -> Line:
    """The line that names the user of one of REQUESTS."""
    return Line(
        Event.SHUTDOWN_REQUESTED, f"{REQUESTS[what]} by {user}, with xennerctl"
    )


@dataclass(frozen=True, slots=True)
class Subject:
    """The domain that a line is about."""

    domid: Domid
    name: str
    handle: str = ""

    def fields(self) -> dict[str, str]:
        """The journal's fields for it."""
        fields = {"XENNER_DOMID": str(self.domid), "XENNER_DOMAIN": self.name}
        return fields | ({"XENNER_UUID": self.handle} if self.handle else {})


class Line(NamedTuple):
    """What one line about a domain says, and the journal's fields for the
    device and the reason of it, if it has one."""

    event: Event
    text: str
    device: str = ""
    reason: str = ""

    def fields(self) -> dict[str, str]:
        """The fields that are set."""
        fields = {"XENNER_DEVICE": self.device, "XENNER_REASON": self.reason}
        return {name: value for name, value in fields.items() if value}


def log_event(event: Event, text: str, subject: Subject, **fields: str) -> None:
    """Log one event of a domain."""
    if is_read_by_journal():
        _send(event, text, subject, fields)
    else:
        print(f"xenner: {subject.name}: {text}", file=sys.stderr, flush=True)


def log_unit_event(
    unit: str, event: Event, text: str, subject: Subject
) -> None:
    """Log one event of another process's unit, which only root can do
    (journalctl(1), --unit). Nothing where there is no journal."""
    _send(event, text, subject, {"OBJECT_SYSTEMD_UNIT": unit})


def _send(
    event: Event, text: str, subject: Subject, fields: Mapping[str, str]
) -> None:
    from systemd import journal

    is_bad = event in (Event.CRASHED, Event.START_LIMIT_HIT)
    journal.send(
        f"{subject.name}: {text}",
        MESSAGE_ID=event.value,
        PRIORITY=journal.LOG_ERR if is_bad else journal.LOG_NOTICE,
        SYSLOG_IDENTIFIER=_IDENTIFIER,
        **subject.fields(),
        **fields,
    )


def set_up_logging(subject: Subject) -> None:
    """Every record of this process, and what it prints on standard error, goes
    to the journal with the domain's fields; where there is none, all stays as
    it is."""
    if not is_read_by_journal():
        return
    from systemd import journal

    handler = journal.JournalHandler(
        SYSLOG_IDENTIFIER=_IDENTIFIER, **subject.fields()
    )
    handler.setFormatter(logging.Formatter(f"{subject.name}: %(message)s"))
    logging.getLogger().handlers[:] = [handler]
    sys.stderr = _Printed(
        partial(
            journal.send,
            PRIORITY=journal.LOG_INFO,
            SYSLOG_IDENTIFIER=_IDENTIFIER,
            **subject.fields(),
        )
    )


class _Printed(io.TextIOBase):
    """Standard error, a line at a time: what a crash left, a traceback.
    journal.stream() is one without the domain's fields."""

    def __init__(self, send: Callable[[str], object]) -> None:
        self._send = send
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(None, lines):
            self._send(line)
        return len(text)
