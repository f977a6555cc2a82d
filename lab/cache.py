# SPDX-License-Identifier: GPL-2.0-or-later
"""Things that are costly to build, kept under the digest of their inputs."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# An older entry may be in use, by a machine of another working tree.
_KEPT = 2


def cache_directory() -> Path:
    """$XENNER_LAB_CACHE, or the user's cache directory as XDG has it."""
    if named := os.environ.get("XENNER_LAB_CACHE"):
        return Path(named)
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "xenner-lab"


def key_of(inputs: Iterable[Path | str]) -> str:
    """16 hexadecimal digits that change with any file or text of `inputs`."""
    digest = hashlib.sha256()
    for item in inputs:
        data = item.encode() if isinstance(item, str) else item.read_bytes()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


@contextmanager
def locked(kind: str) -> Iterator[Path]:
    """The cache's directory, with `kind` locked against other processes."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache


def find_or_make(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The directory `kind`-`key`. Where there is none, make(directory) fills
    it; one that was not filled to the end is never seen."""
    with locked(kind) as cache:
        entry = cache / f"{kind}-{key}"
        if not entry.is_dir():
            part = cache / f"{kind}.part"
            remove(part)
            part.mkdir()
            make(part)
            part.rename(entry)
        # The time of last use, by which the old ones are told.
        os.utime(entry)
        entries = sorted(cache.glob(f"{kind}-*"), key=_used_at, reverse=True)
        for old in entries[_KEPT:]:
            remove(old)
    return entry


def remove(path: Path) -> None:
    """Remove a directory tree if it is there."""
    if path.exists():
        shutil.rmtree(path)


def _used_at(path: Path) -> float:
    return path.stat().st_mtime
