# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's process says, as the journal gets it."""

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xenner import journal
from xenner.journal import Event, Subject, set_up_logging
from xenner.types import Domid

SUBJECT = Subject(Domid(7), "web", "4766cf5a-0e85-42df-96d6-c3614a39da33")


CATALOGUE = Path(__file__).resolve().parents[3] / "units/xenner.catalog"


def test_each_event_has_its_text_in_the_catalogue() -> None:
    _licence, *entries = CATALOGUE.read_text().split("\n-- ")
    ids = [entry.partition("\n")[0] for entry in entries]
    assert sorted(ids) == sorted(Event)
    for entry in entries:
        assert "\nSubject: " in entry
        assert "\nDocumentation: man:" in entry
        # What is not a field of the entry stays as it is in the text.
        fields = set(re.findall(r"@([A-Z_]+)@", entry))
        own = {"XENNER_DOMID", "XENNER_DOMAIN"}
        if Event.ENDED in entry:
            own.add("XENNER_REASON")
        if Event.DEVICE in entry:
            own.add("XENNER_DEVICE")
        assert fields <= own


class Journal:
    """systemd.journal, as far as it is used."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []

    def send(self, message: str, **fields: Any) -> None:
        self.entries.append((message, fields))

    def JournalHandler(self, **fields: str) -> logging.Handler:  # noqa: N802
        handler = logging.Handler()
        handler.emit = lambda record: self.send(  # type: ignore[method-assign]
            handler.format(record), **fields
        )
        return handler


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Journal:
    fake = Journal()
    monkeypatch.setattr(journal, "find_journal", lambda: fake)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    return fake


@pytest.fixture
def set_up(
    fake: Journal, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """To be called in the test: each of its phases has another stderr."""

    def act() -> None:
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        set_up_logging(SUBJECT)

    return act


def test_records_and_printed_lines_have_its_fields(
    fake: Journal, set_up: Callable[[], None]
) -> None:
    set_up()
    logging.getLogger("xenner").error("is ill")
    print("rip: 0", "rsp: 1", sep="\n", file=sys.stderr)
    assert [message for message, _fields in fake.entries] == [
        *("web: is ill", "rip: 0", "rsp: 1")
    ]
    for _message, fields in fake.entries:
        assert fields.items() >= SUBJECT.fields().items()
        assert fields["SYSLOG_IDENTIFIER"] == "xenner"


def test_a_line_is_told_when_it_ends(
    fake: Journal, set_up: Callable[[], None]
) -> None:
    set_up()
    sys.stderr.write("half")
    assert fake.entries == []
    sys.stderr.write(" a line\n\n")
    assert [message for message, _fields in fake.entries] == ["half a line"]
