# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that a restarted store comes back from.

`state` in a directory of our own: a dump of the store, then what was done
since. It is written before the replies to what it says are sent, and left to
the kernel to put on a disk: that outlives us however we end, and what a power
cut takes away, the guests were taken away with. With `sync` it is on the disk
before the reply. When the file has grown, a new one is written little by
little beside the work, and renamed over it.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from xenner.errors import HostError
from xenstored.persistence import dump, kept, restore

_log = logging.getLogger("xenner.store")

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_GROWTH_BYTES = 4 << 20
_STEP_BATCHES = 256
_RETRY_SAVES = 256


class StateFile:
    """The journal's file; `store` is what was found in it."""

    def __init__(self, directory: Path, *, sync: bool = False) -> None:
        """Raises HostError if the directory cannot be used."""
        self._path = directory / "state"
        self._new_path = directory / "state.new"
        self._sync = sync
        self._fd = -1
        self._new_fd = -1
        self._dump: Iterator[bytes] | None = None
        self._later: list[bytes] = []
        self._size = self._base_size = 0
        self._is_behind = False
        self._nr_saves = 0
        self._lock_fd = -1
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = b""
            with suppress(FileNotFoundError):
                data = self._path.read_bytes()
            self.store, used = restore(data)
            if used < len(data):
                _log.warning(
                    "%s: the last %d bytes are not whole and were dropped",
                    *(self._path, len(data) - used),
                )
            kept(self.store)
            self._begin()
            self._step(None)
        except OSError as error:
            self.close()
            reason = f"state directory {directory}: {error.strerror}"
            in_use = error.errno == errno.EAGAIN
            hint = "another store uses it" if in_use else ""
            raise HostError(reason, hint) from error

    def close(self) -> None:
        """Let go of the files; what was written stays."""
        for fd in (self._fd, self._new_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._new_fd = self._lock_fd = -1

    def save(self) -> None:
        """Write what the store's journal has; to be called before replies.

        A full disk is an operator's trouble and no guest's: it is said once,
        the store goes on, and a new file is written when there is room again.
        """
        data = self.store.journal.take()
        if not data:
            return
        try:
            self._nr_saves += 1
            if self._is_behind:
                if self._nr_saves % _RETRY_SAVES:
                    return
                self._begin()
                self._step(None)
                self._is_behind = False
                _log.warning("%s: up to date again", self._path)
                return
            _write(self._fd, data)
            if self._sync:
                os.fdatasync(self._fd)
            self._size += len(data)
            self._compact(data)
        except OSError as error:
            if not self._is_behind:
                _log.error(
                    "%s: %s; a restart would find an old state",
                    *(self._path, error.strerror),
                )
            self._is_behind = True
            self._give_up_new()

    def _compact(self, data: bytes) -> None:
        if self._dump is not None:
            self._later.append(data)
            self._step(_STEP_BATCHES)
        elif self._size > 2 * self._base_size + _GROWTH_BYTES:
            self._begin()

    def _begin(self) -> None:
        """Start on a new file, with the store as it is now."""
        self._give_up_new()
        self._new_fd = os.open(self._new_path, _FLAGS, 0o600)
        self._dump = dump(self.store)
        # The first batch takes the snapshot that the others come from.
        _write(self._new_fd, next(self._dump))

    def _give_up_new(self) -> None:
        if self._new_fd >= 0:
            os.close(self._new_fd)
        self._new_fd = -1
        self._dump = None
        self._later = []

    def _step(self, most: int | None) -> None:
        """Write on at the new file; when it is whole it takes its place."""
        if self._dump is None:
            return
        batches = [
            batch
            for _, batch in zip(
                range(most or 1 << 62), self._dump, strict=False
            )
        ]
        _write(self._new_fd, b"".join(batches))
        if most is not None and len(batches) == most:
            return
        _write(self._new_fd, b"".join(self._later))
        if self._sync:
            os.fdatasync(self._new_fd)
        self._new_path.rename(self._path)
        self._size = self._base_size = os.fstat(self._new_fd).st_size
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._new_fd = self._new_fd, -1
        self._give_up_new()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
