# SPDX-License-Identifier: GPL-2.0-or-later
"""Logical volumes, as blkbackd opens them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from blkbackd.volume import open_volume
from tests.system.commands import output_of
from xenner.errors import HostError

pytestmark = pytest.mark.environments("machine")

_MIB = 1 << 20


@pytest.fixture
def lv() -> Iterator[Path]:
    name = f"disk{uuid.uuid4().hex[:8]}"
    output_of(
        *("lvcreate", "--yes", "--quiet", "--wipesignatures", "n"),
        *("--size", "8m", "--name", name, "lab"),
    )
    yield Path(f"/dev/lab/{name}")
    output_of("lvremove", "--yes", "--quiet", f"lab/{name}")


def test_a_logical_volume_of_one_writer_grows(lv: Path) -> None:
    volume = open_volume(lv, is_read_only=False)
    try:
        number = os.stat(lv).st_rdev
        assert volume.device == f"{os.major(number):x}:{os.minor(number):x}"
        assert not volume.buffered_reason
        assert volume.nr_sectors == 8 * _MIB >> 9
        for is_read_only in (False, True):
            with pytest.raises(HostError, match="is in use"):
                open_volume(lv, is_read_only=is_read_only)
        output_of("lvextend", "--quiet", "--size", "12m", str(lv))
        assert volume.as_it_is().nr_sectors == 12 * _MIB >> 9
    finally:
        volume.close()
