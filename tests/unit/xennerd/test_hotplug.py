# SPDX-License-Identifier: GPL-2.0-or-later
"""What was plugged in or out is what the next start has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xenner.errors import ConfigError
from xenner.types import Domid
from xenner.xlcfg import parse_config
from xennerd.domain.hotplug import (
    record_hotplug,
    record_with_device,
    with_hotplug,
)
from xennerd.domain.lifecycle import planned_record
from xennerd.domain.records import Record, read_record, write_record

XVDA, XVDB = 51712, 51728
CONFIG = parse_config(
    "name='web'\nkernel='/k'\ndisk=['/dev/vg/web,raw,xvda,w']\n"
    "vif=['mac=00:16:3e:00:00:01']\n",
    file="web.cfg",
)


def test_nothing_was_plugged() -> None:
    assert with_hotplug(CONFIG, ()) == CONFIG


def test_in() -> None:
    plugged = record_with_device((), "vbd", XVDB, "/dev/vg/data,raw,xvdb,r")
    plugged = record_with_device(plugged, "vif", 1, "bridge=b")
    config = with_hotplug(CONFIG, plugged)
    assert [disk.vdev for disk in config.disks] == ["xvda", "xvdb"]
    assert config.disks[1].target == "/dev/vg/data"
    assert not config.disks[1].is_writable
    assert [vif.devid for vif in config.vifs] == [0, 1]
    assert config.vifs[0] == CONFIG.vifs[0]
    assert config.vifs[1].bridge == "b"


def test_out() -> None:
    plugged = record_with_device((), "vbd", XVDA)
    config = with_hotplug(CONFIG, record_with_device(plugged, "vif", 0))
    assert (config.disks, config.vifs) == ((), ())


def test_the_last_word_counts() -> None:
    plugged: tuple[str, ...] = ()
    for spec in ("/one,raw,xvdb,w", "", "/a file,raw,xvdb,w"):
        plugged = record_with_device(plugged, "vbd", XVDB, spec)
    plugged = record_with_device(plugged, "vbd", XVDB + 16, "/c,raw,xvdc,w")
    assert len(plugged) == 2
    assert with_hotplug(CONFIG, plugged).disks[1].target == "/a file"
    out = record_with_device(plugged, "vbd", XVDB)
    assert len(with_hotplug(CONFIG, out).disks) == 2


@pytest.mark.parametrize(
    "word", ["", "vbd", "vbd x /a,raw,xvdb,w", "vbd 1 /a", "usb 1 x", "vif 1 x"]
)
def test_what_nobody_can_have_plugged_in(word: str) -> None:
    with pytest.raises(ConfigError, match="plugged in"):
        with_hotplug(CONFIG, (word,))


def test_remembered(tmp_path: Path) -> None:
    record = Record(Domid(7), "web", "", "/etc/xenner/7.cfg")
    write_record(tmp_path, record)
    record_hotplug(tmp_path, Domid(7), "vbd", XVDB, "/a,raw,xvdb,w")
    record_hotplug(tmp_path, Domid(7), "vif", 0)
    wanted = ("vbd 51728 /a,raw,xvdb,w", "vif 0 ")
    assert read_record(tmp_path, Domid(7)) == replace(record, plugged=wanted)
    # A guest without a file is not started again.
    record_hotplug(tmp_path, Domid(8), "vif", 0)
    assert read_record(tmp_path, Domid(8)) is None


def test_one_that_was_killed_has_them_again(tmp_path: Path) -> None:
    plugged = ("vbd 51728 /a,raw,xvdb,w",)
    record = Record(Domid(7), "web", "", "/etc/xenner/7.cfg", plugged=plugged)

    def planned() -> Record:
        return planned_record(
            CONFIG,
            Domid(7),
            runtime_dir=tmp_path,
            file=Path("/etc/xenner/7.cfg"),
            text="",
            settings="",
        )

    write_record(tmp_path, record)
    assert planned().plugged == plugged
    # Another domain's, or a dead one's that stays, are not its own.
    write_record(tmp_path, replace(record, name="db"))
    assert planned().plugged == ()
    write_record(tmp_path, replace(record, end="crash"))
    assert planned().plugged == ()
