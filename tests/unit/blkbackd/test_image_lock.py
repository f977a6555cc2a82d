# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may have a volume beside whom."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from blkbackd.image_lock import lock_image

# What QEMU's guests lock of a raw image: what they do, and what others may not.
_READS, _WRITES, _NOBODY_WRITES, _NOBODY_RESIZES = 100, 101, 201, 203
_QEMU_READER = (_READS, _NOBODY_WRITES, _NOBODY_RESIZES)
_QEMU_WRITER = (*_QEMU_READER, _WRITES)
_FLOCK = struct.Struct("@hhqqi0q")


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def _lock(fd: int, byte: int) -> None:
    wanted = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)


def _is_refused(fd: int, *, is_read_only: bool) -> bool:
    try:
        lock_image(fd, is_read_only=is_read_only, is_device=False)
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize(
    ("theirs", "is_read_only", "is_refused"),
    [
        ((), False, False),
        (_QEMU_READER, True, False),
        (_QEMU_READER, False, True),
        (_QEMU_WRITER, True, True),
        (_QEMU_WRITER, False, True),
        # qemu-img looks at a raw image, and minds nobody who writes.
        ((_READS,), False, False),
        # As when it is made larger.
        ((_READS, _READS + 3), True, True),
    ],
)
def test_beside_qemu(
    tmp_path: Path,
    theirs: Sequence[int],
    is_read_only: bool,
    is_refused: bool,
) -> None:
    qemus, ours = _open(tmp_path / "disk"), _open(tmp_path / "disk")
    try:
        for byte in theirs:
            _lock(qemus, byte)
        assert _is_refused(ours, is_read_only=is_read_only) is is_refused
    finally:
        os.close(qemus)
        os.close(ours)


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [(True, True, False), (True, False, True), (False, True, True)],
)
def test_beside_each_other(
    tmp_path: Path, first: bool, second: bool, is_refused: bool
) -> None:
    fds = [_open(tmp_path / "disk") for _ in range(2)]
    try:
        assert not _is_refused(fds[0], is_read_only=first)
        assert _is_refused(fds[1], is_read_only=second) is is_refused
    finally:
        for fd in fds:
            os.close(fd)
