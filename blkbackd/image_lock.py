# SPDX-License-Identifier: GPL-2.0-or-later
"""A volume has one writer or any number of readers: who keeps whom out.

flock(2) says it, which udev and partitioning tools mind, and so do the locks
of QEMU's programs (block/file-posix.c), who mind only those: of a file's bytes
100 and on one stands for each thing that somebody does, of those from 200 on
for each that nobody else is to do. All are shared locks of open files; each
locks its own, and then looks for the others'. Calls block.
"""

import errno
import fcntl
import os
import struct
import time
from enum import IntEnum

_UDEV_S = 1.0
_FLOCK = struct.Struct("@hhqqi0q")
_DONE, _NOT_FOR_OTHERS = 100, 200


class _Right(IntEnum):
    """BLK_PERM_* of QEMU's include/block/block-common.h, as bits' numbers."""

    CONSISTENT_READ = 0
    WRITE = 1
    RESIZE = 3


_READER = (_Right.CONSISTENT_READ,)
_WRITER = (_Right.CONSISTENT_READ, _Right.WRITE)
_KEPT = (_Right.WRITE, _Right.RESIZE)


def lock_image(fd: int, *, is_read_only: bool, is_device: bool) -> None:
    """For as long as the open file lives. BlockingIOError: somebody has it."""
    kind = fcntl.LOCK_SH if is_read_only else fcntl.LOCK_EX
    _flock(fd, kind, limit_s=_UDEV_S if is_device else 0)
    done = [_DONE + right for right in (_READER if is_read_only else _WRITER)]
    kept = [_NOT_FOR_OTHERS + right for right in _KEPT]
    for byte in done + kept:
        _lock(fd, byte)
    # What they do and we keep, and what they keep and we do.
    theirs = [byte + _DONE - _NOT_FOR_OTHERS for byte in kept]
    theirs += [byte + _NOT_FOR_OTHERS - _DONE for byte in done]
    if any(_is_locked(fd, byte) for byte in theirs):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _flock(fd: int, kind: int, *, limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            # udev locks a device for as long as it looks what is on it.
            if time.monotonic() >= end_s:
                raise
            time.sleep(_UDEV_S / 20)
        else:
            return


def _lock(fd: int, byte: int) -> None:
    wanted = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)


def _is_locked(fd: int, byte: int) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    found: int = _FLOCK.unpack(answer)[0]
    return found != fcntl.F_UNLCK
