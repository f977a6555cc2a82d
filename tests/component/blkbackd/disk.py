# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk that most tests give to a frontend."""

from pathlib import Path

DISK_BYTES = 8 << 20


def make_disk(path: Path) -> None:
    """A sparse file; each MiB of it begins with a page of its own number."""
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
        for at in range(0, DISK_BYTES, 1 << 20):
            file.seek(at)
            file.write(bytes([at >> 20]) * 4096)
