# SPDX-License-Identifier: GPL-2.0-or-later
"""Lock an image: one writer, or any number of readers.

With flock(2), which udev and partitioning tools respect, and with the byte
locks of QEMU's programs (block/file-posix.c), which respect only those. Byte
100 + n says that the holder uses permission n, byte 200 + n that it does not
share n. All are shared locks of open files: a program takes its own, then tests
for conflicting ones of others. Calls block.
"""

import errno
import fcntl
import os
import struct
import time
from enum import IntEnum

_UDEV_S = 1.0
_FLOCK = struct.Struct("@hhqqi0q")
_USED, _UNSHARED = 100, 200


class _Right(IntEnum):
    """BLK_PERM_* of QEMU's include/block/block-common.h, as bits' numbers."""

    CONSISTENT_READ = 0
    WRITE = 1
    RESIZE = 3


_READER = (_Right.CONSISTENT_READ,)
_WRITER = (_Right.CONSISTENT_READ, _Right.WRITE)
_NEVER_SHARED = (_Right.WRITE, _Right.RESIZE)


def lock_image(fd: int, *, is_read_only: bool, is_device: bool) -> None:
    """Lock while the file is open. BlockingIOError: another process has it."""
    kind = fcntl.LOCK_SH if is_read_only else fcntl.LOCK_EX
    _flock(fd, kind, limit_s=_UDEV_S if is_device else 0)
    used = [_USED + right for right in (_READER if is_read_only else _WRITER)]
    unshared = [_UNSHARED + right for right in _NEVER_SHARED]
    for byte in used + unshared:
        _lock(fd, byte)
    # Theirs that conflict: uses that we do not share, and the reverse.
    theirs = [byte + _USED - _UNSHARED for byte in unshared]
    theirs += [byte + _UNSHARED - _USED for byte in used]
    if any(_is_locked(fd, byte) for byte in theirs):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _flock(fd: int, kind: int, *, limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            # udev locks a device while it probes it.
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
