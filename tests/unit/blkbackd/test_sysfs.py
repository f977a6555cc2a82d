# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made of the files of a block device."""

from pathlib import Path

import pytest

from blkbackd.sysfs import Facts, read_facts


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "sdb"
    (path / "queue").mkdir(parents=True)
    _write(path, "queue/discard_granularity", 4096)
    _write(path, "queue/discard_max_bytes", 1 << 30)
    _write(path, "discard_alignment", 0)
    _write(path, "removable", 0)
    return path


def _write(path: Path, name: str, value: int) -> None:
    (path / name).write_text(f"{value}\n")


def test_a_disk(disk: Path) -> None:
    assert read_facts(disk) == Facts(4096, 0, is_removable=False)
    _write(disk, "removable", 1)
    assert read_facts(disk) == Facts(4096, 0, is_removable=True)


def test_a_partition_that_begins_within_a_grain(disk: Path) -> None:
    partition = disk / "sdb1"
    partition.mkdir()
    _write(partition, "discard_alignment", 3584)
    # As it stands in DEVICES.
    device = disk.parent / "8:17"
    device.symlink_to(partition)
    assert read_facts(device) == Facts(4096, 3584, is_removable=False)


def test_a_granularity_of_nothing(disk: Path) -> None:
    _write(disk, "queue/discard_max_bytes", 0)
    _write(disk, "discard_alignment", 512)
    assert read_facts(disk) == Facts(0, 0, is_removable=False)


def test_a_kernel_that_does_not_say(tmp_path: Path) -> None:
    assert read_facts(tmp_path / "8:0") == Facts(0, 0, is_removable=False)
