# SPDX-License-Identifier: GPL-2.0-or-later
"""`create -p` for a guest that is a unit: systemd starts it without arguments.

xennerd holds a lock on a file while it waits for the start, and the start tests
the lock. So the request holds for that start only, and for none after xennerd
was killed, even if the file is left.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenner.paths import written_config_dir
from xenner.vmcorelocks import is_owned


def pause_path(runtime_dir: Path, instance: str) -> Path:
    """The lock file of a unit's instance."""
    return written_config_dir(runtime_dir) / f"{instance}.paused"


@contextmanager
def pause_requested(path: Path) -> Iterator[None]:
    """Request it of the start that happens in the block. OSError."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    # A file that is there is left from a killed start.
    path.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(path, flags, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def is_pause_requested(path: Path) -> bool:
    """Is it requested of this start?"""
    return is_owned(path)
