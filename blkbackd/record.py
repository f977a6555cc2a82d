# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that say what was in flight, should we be killed: csrc/record.c."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from xenner.errors import host_error
from xenner.paths import Paths


@dataclass(frozen=True, slots=True)
class Record:
    """An open one. `key` tells its ring from all others, and is not 0."""

    path: Path
    fd: int
    key: int

    def close(self) -> None:
        """Nothing is in flight any more."""
        os.close(self.fd)
        self.path.unlink(missing_ok=True)

    def keep(self) -> None:
        """Something may be."""
        os.close(self.fd)


def open_record(
    name: str, ring: object, size_bytes: int, *, is_kept: bool
) -> Record:
    """The file of a device, made if there is none.

    `is_kept`: as the last one left it, else empty. `ring` is all that tells
    one connection from the next, as str() gives it. HostError: there is no
    place for it.
    """
    path = _path_of(name)
    try:
        if not is_kept:
            path.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with ExitStack() as on_fail:
            fd = os.open(path, flags, 0o600)
            on_fail.callback(os.close, fd)
            os.truncate(fd, size_bytes)
            # All of it now: a touch that finds no room is a signal.
            os.posix_fallocate(fd, 0, size_bytes)
            on_fail.pop_all()
    except OSError as error:
        raise host_error(error.errno or 0, str(path)) from error
    digest = blake2b(str(ring).encode(), digest_size=8).digest()
    return Record(path, fd, int.from_bytes(digest, "little") | 1)


def drop_record(name: str) -> None:
    """There is none of that name any more; nobody has it open."""
    _path_of(name).unlink(missing_ok=True)


def _path_of(name: str) -> Path:
    # A service's own directory, which a restart preserves, or the suite's.
    own = os.environ.get("RUNTIME_DIRECTORY")
    directory = Path(own) if own else Paths.of(os.environ).runtime_dir
    return directory / f"blkbackd.{name}"
