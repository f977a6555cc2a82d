# SPDX-License-Identifier: GPL-2.0-or-later
"""The events of a domain, logged as its unit's if it has a unit."""

from __future__ import annotations

from collections.abc import Callable

from xenner.journal import Line, Subject
from xenner.journal import log_event as journal_event
from xennerd.domain.records import Record
from xennerd.units.manager import Units, instance_of

LogEvent = Callable[[Record, Line], None]


def log_event(units: Units, record: Record, line: Line) -> None:
    """Log one line about a domain. With `units` bound it is a LogEvent."""
    subject = Subject(record.domid, record.name, record.handle)
    if instance := instance_of(record.unit):
        units.log_event(instance, subject, line)
    else:
        journal_event(line.event, line.text, subject, **line.fields())
