# SPDX-License-Identifier: GPL-2.0-or-later
"""What Linux tells of a block device in sysfs(5), of a partition's disk too."""

from dataclasses import dataclass
from pathlib import Path

DEVICES = Path("/sys/dev/block")


@dataclass(frozen=True, slots=True)
class Facts:
    """`discard_bytes` is the granularity of a discard, 0: none, and
    `discard_offset_bytes` where the first grain begins."""

    discard_bytes: int
    discard_offset_bytes: int
    is_removable: bool


def read_facts(device: Path) -> Facts:
    """Of DEVICES / "MAJOR:MINOR"."""
    disk = _disk_of(device)
    # Some that cannot discard have a granularity.
    can_discard = _number(disk / "queue/discard_max_bytes") > 0
    granularity = _number(disk / "queue/discard_granularity")
    offset = _number(device / "discard_alignment")
    return Facts(
        discard_bytes=granularity if can_discard else 0,
        discard_offset_bytes=offset if can_discard else 0,
        is_removable=_number(disk / "removable") == 1,
    )


def sector_bytes(device: Path) -> int:
    """Of DEVICES / "MAJOR:MINOR"; 0: there is none of that number."""
    return _number(_disk_of(device) / "queue/logical_block_size")


def _disk_of(device: Path) -> Path:
    if (device / "queue").exists():
        return device
    return device.resolve().parent  # It is a partition.


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
