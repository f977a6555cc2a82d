# SPDX-License-Identifier: GPL-2.0-or-later
"""Where domains' memory is, unless somebody says otherwise."""

from collections.abc import Mapping
from pathlib import Path


def default_runtime_dir() -> Path:
    """/run/xenner; where /run is no tmpfs, the machine's shared memory."""
    run = Path("/run")
    if _is_tmpfs(run) or not _is_tmpfs(Path("/dev/shm")):
        return run / "xenner"
    return Path("/dev/shm/xenner")


def runtime_dir_of(environment: Mapping[str, str]) -> Path:
    """What the environment says, for all programs that look at domains: who
    took one host's store and another's memory would see the dead."""
    return Path(environment.get("XENNER_RUNTIME_DIR") or default_runtime_dir())


def _is_tmpfs(path: Path) -> bool:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _source, mount_point, kind, *_ = line.split(" ")
        if mount_point == str(path):
            return kind == "tmpfs"
    return False
