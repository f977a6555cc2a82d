# SPDX-License-Identifier: GPL-2.0-or-later
"""What is written down of domains, and what may stand there instead."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.unit.xennerd.samples import RECORD
from xenner.errors import HostError
from xenner.paths import record_path
from xenner.types import Domid
from xennerd.domain.file import MAX_BYTES, config_of_record
from xennerd.domain.records import (
    list_records,
    read_record,
    remove_record,
    write_record,
)


def test_round_trip(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path, Domid(7)) == RECORD
    other = replace(RECORD, domid=Domid(3), end="crash", ended_s=9.0)
    write_record(tmp_path, other)
    (tmp_path / "domain.x").write_text("no domain's")
    assert list_records(tmp_path) == [other, RECORD]
    assert len(list(tmp_path.iterdir())) == 3
    remove_record(tmp_path, Domid(7))
    remove_record(tmp_path, Domid(7))
    assert list_records(tmp_path) == [other]
    assert list_records(tmp_path / "none") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"domid": 7}',
        json.dumps(asdict(replace(RECORD, domid=Domid(8)))),
        json.dumps({**asdict(RECORD), "name": 5}),
        json.dumps({**asdict(RECORD), "pid": "12"}),
        json.dumps({**asdict(RECORD), "starts_s": 5}),
        json.dumps({**asdict(RECORD), "plugged": "vif"}),
        json.dumps({**asdict(RECORD), "plugged": [5]}),
        json.dumps({**asdict(RECORD), "starts_s": ["now"]}),
        "\udcff",
    ],
)
def test_what_is_no_record(tmp_path: Path, text: str) -> None:
    data = text.encode(errors="surrogateescape")
    record_path(tmp_path, Domid(7)).write_bytes(data)
    assert read_record(tmp_path, Domid(7)) is None
    assert list_records(tmp_path) == []


def test_another_version_may_know_more(tmp_path: Path) -> None:
    text = json.dumps({**asdict(RECORD), "colour": "green"})
    record_path(tmp_path, Domid(7)).write_text(text)
    assert read_record(tmp_path, Domid(7)) == RECORD


def test_one_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot write"):
        write_record(tmp_path / "none", RECORD)


def test_the_longest_file(tmp_path: Path) -> None:
    record = replace(RECORD, text="\x7f" * MAX_BYTES)
    write_record(tmp_path, record)
    assert read_record(tmp_path, record.domid) == record


def test_what_it_is_started_from_again(tmp_path: Path) -> None:
    """What stood in its file, whatever has become of that."""
    file = tmp_path / "web.cfg"
    record = replace(RECORD, file=str(file))
    assert config_of_record(record).kernel == "/k"
    file.write_text("name='web'\nkernel='/other'\n")
    assert config_of_record(record).kernel == "/k"
    # One of a version that did not write it down.
    old = config_of_record(replace(record, text=None))
    assert (old.kernel, old.memory_mib) == ("/other", 64)


def test_who_alone_may_read_a_file_alone_reads_its_record(
    tmp_path: Path,
) -> None:
    before = os.umask(0)
    try:
        write_record(tmp_path, RECORD)
    finally:
        os.umask(before)
    path = record_path(tmp_path, RECORD.domid)
    assert path.stat().st_mode & 0o777 == 0o600


def test_where_several_serve_domains_all_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_record(tmp_path, RECORD)
        path = record_path(tmp_path, RECORD.domid)
        assert path.stat().st_mode & 0o777 == 0o600
        tmp_path.chmod(0o2770)
        write_record(tmp_path, RECORD)
        assert path.stat().st_mode & 0o777 == 0o660
    finally:
        os.umask(before)
