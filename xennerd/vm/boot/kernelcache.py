# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacked kernels, kept: unpacking xz takes longer than the rest of a start.

A cache is a directory of ELF files named by the SHA-256 of the file that they
were unpacked from. It only ever saves time: whatever is wrong with it, the
kernel is unpacked again.
"""

import hashlib
import mmap
import os
import stat
from contextlib import suppress
from pathlib import Path

_MAX_ENTRIES = 4
# Part of every name; another number when what is stored changes.
_FORMAT = "1"


def default_cache_dir() -> Path:
    """The service manager's for this process (systemd.exec(5)); /var/cache/
    xenner for root, else in the user's own cache directory."""
    if given := os.environ.get("CACHE_DIRECTORY"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/cache/xenner")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "xenner"


class KernelCache:
    """At most a handful of unpacked kernels in one directory of ours."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, image: bytes) -> mmap.mmap | None:
        """The ELF file that `image` unpacks to, None if it is not here."""
        path = self._path(image)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if not _is_private(os.fstat(fd)) or not self._is_trusted():
                return None
            os.utime(fd)  # Used just now: the last to be dropped.
            return mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):  # ValueError: an empty file.
            return None
        finally:
            os.close(fd)

    def store(self, image: bytes, elf: bytes | mmap.mmap) -> bool:
        """Keep what `image` was unpacked to; False if that cannot be done."""
        path = self._path(image)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_trusted():
                return False
            self._drop_oldest()
            dirfd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            _write_file(dirfd, path.name, elf)
        except OSError:
            return False
        finally:
            os.close(dirfd)
        return True

    def _path(self, image: bytes) -> Path:
        name = hashlib.sha256(image).hexdigest()
        return self._directory / f"kernel-{_FORMAT}-{name}"

    def _is_trusted(self) -> bool:
        return _is_private(self._directory.stat())

    def _drop_oldest(self) -> None:
        """Make room for one more."""
        files = sorted(
            self._directory.glob("kernel-*"), key=lambda p: p.lstat().st_mtime
        )
        for path in files[: max(0, len(files) - _MAX_ENTRIES + 1)]:
            path.unlink(missing_ok=True)


def _is_private(status: os.stat_result) -> bool:
    """Written by us alone? A kernel of somebody else's must not run."""
    others = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == os.geteuid() and not status.st_mode & others


def _write_file(dirfd: int, name: str, data: bytes | mmap.mmap) -> None:
    """Write it whole or not at all, also if the power fails meanwhile."""
    flags = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
    fd = os.open(".", flags, 0o600, dir_fd=dirfd)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
        # One that is there already was not good enough, or we lost a race.
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=dirfd)
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=dirfd)
    finally:
        os.close(fd)
