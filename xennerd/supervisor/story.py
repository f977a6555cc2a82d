# SPDX-License-Identifier: GPL-2.0-or-later
"""What xennerd tells of a domain: in its unit's story, if it has a unit."""

from __future__ import annotations

from typing import Protocol

from xennerd.journal import Event, Subject, tell
from xennerd.records import Record
from xennerd.units.manager import Units, instance_of


class Tell(Protocol):
    """One line about a domain. `device` and `reason` are the journal's fields
    for them."""

    def __call__(
        self,
        event: Event,
        text: str,
        record: Record,
        *,
        device: str = "",
        reason: str = "",
    ) -> None: ...


class Story:
    """A Tell."""

    def __init__(self, units: Units) -> None:
        self._units = units

    def __call__(
        self,
        event: Event,
        text: str,
        record: Record,
        *,
        device: str = "",
        reason: str = "",
    ) -> None:
        subject = Subject(record.domid, record.name, record.handle)
        instance = instance_of(record.unit)
        if instance:
            self._units.tell(
                event,
                text,
                subject,
                instance=instance,
                device=device,
                reason=reason,
            )
        else:
            fields = {"XENNER_DEVICE": device, "XENNER_REASON": reason}
            told = {name: value for name, value in fields.items() if value}
            tell(event, text, subject, **told)
