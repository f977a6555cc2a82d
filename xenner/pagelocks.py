# SPDX-License-Identifier: GPL-2.0-or-later
"""Who maps a guest's pages holds them; who takes memory away asks first.

A page of a vmcore that its guest gives back becomes a hole. A process that
has it mapped would allocate it anew by a touch, and end by SIGBUS where there
is no room. So a mapper has a shared lock of the page's bytes, a VM process an
exclusive one while it makes holes. Both are locks of open files (F_OFD_SETLK
of fcntl_locking(2)): the kernel lets go of a dead mapper's, and a mapping
keeps the one of the file that it was made through. libs/client/vmcore.h does
the same in C.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

_FLOCK = struct.Struct("@hhqqi0q")
_NR_TRIES, _PAUSE_S = 1000, 50e-6


def hold_pages(fd: int, start: int, size_bytes: int) -> None:
    """Keep a range there for as long as `fd` or a mapping made of it lives.

    What had been given back gets zeros. OSError: no room for them, or the
    VM process keeps the range for itself.
    """
    for _ in range(_NR_TRIES):
        if _lock(fd, fcntl.F_RDLCK, start, size_bytes):
            break
        time.sleep(_PAUSE_S)
    else:
        raise OSError(errno.EAGAIN, "the pages are being given back")
    os.posix_fallocate(fd, start, size_bytes)


@contextmanager
def taken_pages(fd: int, start: int, size_bytes: int) -> Iterator[bool]:
    """Is a range nobody else's for the length of the block?

    One thread at a time: the locks of one open file are one owner's.
    """
    is_ours = _lock(fd, fcntl.F_WRLCK, start, size_bytes)
    try:
        yield is_ours
    finally:
        if is_ours:
            _lock(fd, fcntl.F_UNLCK, start, size_bytes)


def _lock(fd: int, kind: int, start: int, size_bytes: int) -> bool:
    wanted = _FLOCK.pack(kind, os.SEEK_SET, start, size_bytes, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
