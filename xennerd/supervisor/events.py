# SPDX-License-Identifier: GPL-2.0-or-later
"""What xennerd tells of a domain: in its unit's story, if it has a unit."""

from __future__ import annotations

from collections.abc import Callable

from xenner.journal import Line, Subject, tell
from xennerd.domain.records import Record
from xennerd.units.manager import Units, instance_of

Tell = Callable[[Record, Line], None]


def tell_story(units: Units, record: Record, line: Line) -> None:
    """One line about a domain. With `units` bound it is a Tell."""
    subject = Subject(record.domid, record.name, record.handle)
    if instance := instance_of(record.unit):
        units.tell(instance, subject, line)
    else:
        tell(line.event, line.text, subject, **line.fields())
