# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's process says, as the journal gets it."""

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import systemd.journal

from xenner.journal import (
    Event,
    Subject,
    log_event,
    log_unit_event,
    set_up_logging,
)
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


Entries = list[dict[str, str]]


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Entries:
    """What the journal gets; it reads standard error."""
    entries: Entries = []

    def sendv(*fields: str) -> None:
        entries.append(dict(field.split("=", 1) for field in fields))

    monkeypatch.setattr(systemd.journal, "sendv", sendv)
    monkeypatch.setenv("JOURNAL_STREAM", stream_of(2))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    return entries


def stream_of(fd: int) -> str:
    status = os.fstat(fd)
    return f"{status.st_dev}:{status.st_ino}"


@pytest.fixture
def set_up(
    entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """To be called in the test: each of its phases has another stderr."""

    def act() -> None:
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        set_up_logging(SUBJECT)

    return act


def test_records_and_printed_lines_have_its_fields(
    entries: Entries, set_up: Callable[[], None]
) -> None:
    set_up()
    logging.getLogger("xenner").error("is ill")
    print("rip: 0", "rsp: 1", sep="\n", file=sys.stderr)
    assert [entry["MESSAGE"] for entry in entries] == [
        *("web: is ill", "rip: 0", "rsp: 1")
    ]
    assert [entry["PRIORITY"] for entry in entries] == ["3", "6", "6"]
    for entry in entries:
        assert entry.items() >= SUBJECT.fields().items()
        assert entry["SYSLOG_IDENTIFIER"] == "xenner"


def test_a_line_is_told_when_it_ends(
    entries: Entries, set_up: Callable[[], None]
) -> None:
    set_up()
    sys.stderr.write("half")
    assert entries == []
    sys.stderr.write(" a line\n\n")
    assert [entry["MESSAGE"] for entry in entries] == ["half a line"]


def test_an_event_is_told(
    entries: Entries, capsys: pytest.CaptureFixture[str]
) -> None:
    log_event(Event.CRASHED, "has ended", SUBJECT, XENNER_REASON="crash")
    log_unit_event(
        "xenner@7.service", Event.SHUTDOWN_REQUESTED, "is asked", SUBJECT
    )
    first, second = entries
    assert first["MESSAGE"] == "web: has ended"
    assert first["MESSAGE_ID"] == Event.CRASHED
    assert (first["PRIORITY"], second["PRIORITY"]) == ("3", "5")
    assert first["XENNER_REASON"] == "crash"
    assert second["OBJECT_SYSTEMD_UNIT"] == "xenner@7.service"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stream", [None, "", "1", "0:0"])
def test_standard_error_that_nobody_else_reads(
    stream: str | None,
    entries: Entries,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """JOURNAL_STREAM is still there where it was redirected."""
    if stream is None:
        monkeypatch.delenv("JOURNAL_STREAM")
    else:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    before = sys.stderr
    set_up_logging(SUBJECT)
    assert sys.stderr is before
    log_event(Event.RUNNING, "is running", SUBJECT)
    assert capsys.readouterr().err == "xenner: web: is running\n"
    assert entries == []
