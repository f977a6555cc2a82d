# SPDX-License-Identifier: GPL-2.0-or-later
"""dump-guest-memory: a stopped guest's vmcore, copied to a file or pipe."""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from xennerd.qmp.request import QmpError

_CHUNK_BYTES = 16 << 20
# Of a pipe's reader, which holds the guest up meanwhile.
_PATIENCE_S = 30.0


class DumpStatus(StrEnum):
    """DumpStatus of QEMU's qapi/dump.json."""

    NONE = "none"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(slots=True)
class Dump:
    """How far a dump is; written by its thread, bytes."""

    status: DumpStatus = DumpStatus.NONE
    total: int = 0
    completed: int = 0
    is_cancelled: threading.Event = field(default_factory=threading.Event)

    def result(self) -> dict[str, Any]:
        """DumpQueryResult."""
        return {
            "status": str(self.status),
            "completed": self.completed,
            "total": self.total,
        }


def open_target(protocol: str, named_fds: dict[str, int]) -> int:
    """The descriptor to write to, the caller's; QmpError if there is none.

    `protocol` is file:PATH, or fd:NAME of one that the client has sent.
    """
    kind, colon, rest = protocol.partition(":")
    if kind == "fd" and colon:
        if rest not in named_fds:
            raise QmpError(f"File descriptor named '{rest}' not found")
        return named_fds.pop(rest)
    if kind != "file" or not rest:
        raise QmpError("parameter 'protocol' must begin with 'file:' or 'fd:'")
    try:
        return os.open(
            rest,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
            0o600,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise QmpError(f"cannot create {rest}: {reason}") from None


def copy_core(source: int, target: int, dump: Dump) -> None:
    """Copy a vmcore; closes both descriptors. For a thread of its own.

    A file gets holes where the vmcore has them; a pipe gets all bytes. Raises
    OSError: ETIMEDOUT if nobody reads a pipe, ECANCELED when told to stop.
    """
    with ExitStack() as stack:
        stack.callback(os.close, source)
        stack.callback(os.close, target)
        size_bytes = os.fstat(source).st_size
        if stat.S_ISREG(os.fstat(target).st_mode):
            extents = list(_data_extents(source, size_bytes))
            dump.total = sum(end - start for start, end in extents)
            os.ftruncate(target, size_bytes)
            for start, end in extents:
                os.lseek(target, start, os.SEEK_SET)
                _send(source, target, start, end, dump)
        else:
            dump.total = size_bytes
            os.set_blocking(target, False)
            _send(source, target, 0, size_bytes, dump)


def _data_extents(fd: int, size_bytes: int) -> list[tuple[int, int]]:
    """[start, end) of all that is no hole."""
    extents = []
    end = 0
    while end < size_bytes:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # Holes alone from here on.
                break
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        extents.append((start, end))
    return extents


def _send(source: int, target: int, start: int, end: int, dump: Dump) -> None:
    while start < end:
        if dump.is_cancelled.is_set():
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        try:
            count = os.sendfile(
                target, source, start, min(end - start, _CHUNK_BYTES)
            )
        except BlockingIOError:
            _wait_writable(target, dump)
            continue
        if not count:
            raise OSError(errno.EIO, "the vmcore has become shorter")
        start += count
        dump.completed += count


def _wait_writable(target: int, dump: Dump) -> None:
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    for _ in range(int(_PATIENCE_S * 10)):
        if poll.poll(100) or dump.is_cancelled.is_set():
            return
    raise OSError(errno.ETIMEDOUT, "nobody reads the dump")
