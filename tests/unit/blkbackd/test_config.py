# SPDX-License-Identifier: GPL-2.0-or-later
"""What the nodes of a disk say."""

from pathlib import Path

import pytest

from blkbackd.config import (
    LIMITS,
    may_share,
    may_write,
    parse_params,
    read_limits,
)
from blkbackd.engine import Limits
from xenner import xldisk
from xenner.errors import HostError


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ("/dev/vg/lv", "/dev/vg/lv"),
        ("phy:/dev/vg/lv", "/dev/vg/lv"),
        ("phy:vg/lv", "/dev/vg/lv"),
        ("vg/lv", "/dev/vg/lv"),
        ("aio:/a:b", "/a:b"),
        ("/dev/disk/by-path/pci-0:0:1", "/dev/disk/by-path/pci-0:0:1"),
        (
            "phy:/dev/disk/by-path/pci-0:file:1",
            "/dev/disk/by-path/pci-0:file:1",
        ),
        ("/run/phy:/a", "/run/phy:/a"),
    ],
)
def test_params(params: str, path: str) -> None:
    assert parse_params(params) == Path(path)


@pytest.mark.parametrize(
    ("mode", "writes", "shares"),
    [("r", 0, 0), ("w", 1, 0), ("w!", 1, 1), ("r!", 0, 1), ("", 0, 0)],
)
def test_mode(mode: str, writes: bool, shares: bool) -> None:
    assert (may_write(mode), may_share(mode)) == (writes, shares)


def test_all_limits_can_be_said_in_a_domain_file() -> None:
    assert {*LIMITS} == {*xldisk.LIMITS}


def test_limits() -> None:
    assert read_limits({}) == Limits()
    nodes = {"iops-total": "500", "bps-total": "4096", "bps-total-max": "9"}
    assert read_limits(nodes) == Limits(500, 50, 4096, 9)


@pytest.mark.parametrize("text", ["many", "-1", "1.5", "²", "9" * 19])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(HostError, match="bps-total is no number"):
        read_limits({"bps-total": text})
