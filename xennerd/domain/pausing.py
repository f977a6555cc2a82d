# SPDX-License-Identifier: GPL-2.0-or-later
"""`create -p` of a guest that is a unit: systemd starts it, and passes on
nothing of who asked.

Who asks has a file locked for as long as it waits for the start; the start
looks whether it is locked. So it is asked of that start alone, and of none
when who asked was killed, whatever file it left.
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
    """The file of a unit's instance."""
    return written_config_dir(runtime_dir) / f"{instance}.paused"


@contextmanager
def pause_requested(path: Path) -> Iterator[None]:
    """Ask it of what is started within the block. OSError."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    # Another's is that of a start that was killed.
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
    """Is it asked of this start?"""
    return is_owned(path)
