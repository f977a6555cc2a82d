# SPDX-License-Identifier: GPL-2.0-or-later
"""query-block's form from xenstore's nodes."""

from xennerd.vm.blockinfo import block_info


def test_a_connected_disk() -> None:
    info = block_info(
        51712,
        {
            "dev": "xvda",
            "params": "/dev/vg/root",
            "mode": "r",
            "removable": "1",
            "sectors": "2048",
        },
    )
    assert (info["device"], info["removable"], info["locked"]) == (
        "xvda",
        True,
        False,
    )
    inserted = info["inserted"]
    assert (inserted["ro"], inserted["drv"]) == (True, "raw")
    assert inserted["image"] == {
        "filename": "/dev/vg/root",
        "format": "raw",
        "virtual-size": 1 << 20,
    }
    # What QEMU's schema says is always there.
    assert inserted.keys() >= {
        *("file", "drv", "encrypted", "backing_file_depth", "detect_zeroes"),
        *("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr", "cache"),
        *("write_threshold", "image", "ro"),
    }


def test_a_disk_of_which_nothing_is_known_yet() -> None:
    assert block_info(51712, {}) == {
        "device": "51712",
        "qdev": "/vbd/51712",
        "type": "unknown",
        "removable": False,
        "locked": False,
    }


def test_a_backend_may_write_anything() -> None:
    info = block_info(1, {"params": "x", "mode": "w!", "sectors": "-1"})
    assert info["inserted"]["image"]["virtual-size"] == 0
    assert info["inserted"]["ro"] is False
