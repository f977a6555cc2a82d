# SPDX-License-Identifier: GPL-2.0-or-later
"""Where one host's things are, for all programs: its directories, its sockets,
and what a domain's files are called. libs/client/paths.c is the same in C."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xenner.errors import HostError
from xenner.types import Domid

RUNTIME_DIR = Path("/run/xenner")
SHARED_MEMORY_DIR = Path("/dev/shm/xenner")
"""Where /run is no tmpfs. Anybody may make it: see check_runtime_dir()."""

CONFIG_DIR = Path("/etc/xenner")
STATE_DIR = Path("/var/lib/xenstored")
LOG_DIR = Path("/var/log/xenner")
DUMP_DIR = Path("/var/lib/xenner/dump")
UNITS_SOCKET = Path("/run/xennerd/units.socket")
"""xenner-units': systemd's alone, whatever the runtime directory is."""

_XENSTORED_DIR = Path("/run/xenstored")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the things of one host are."""

    runtime_dir: Path
    xenstore: Path
    """xenstore's socket."""
    state_dir: Path = STATE_DIR
    """What xenstore keeps."""
    log_dir: Path = LOG_DIR
    """What guests' processes say, by hand."""
    dump_dir: Path = DUMP_DIR
    """Where cores go."""

    @classmethod
    def of(
        cls,
        environment: Mapping[str, str],
        *,
        runtime_dir: Path | None = None,
        xenstore: Path | None = None,
        **others: Path,
    ) -> Paths:
        """What is given, else as the environment says, else where the units
        have them. HostError: check_runtime_dir() has something against it."""
        others.setdefault("log_dir", log_dir_of(environment))
        found = cls(
            runtime_dir or runtime_dir_of(environment),
            xenstore or xenstore_of(environment),
            **others,
        )
        check_runtime_dir(found.runtime_dir)
        return found

    @property
    def evtchnd(self) -> Path:
        """evtchnd's socket; the drop-in libraries look for it there."""
        return evtchnd_path(self.runtime_dir)

    @property
    def xennerd(self) -> Path:
        """xennerd's control socket."""
        return self.runtime_dir / "xennerd.socket"

    @property
    def written_config_dir(self) -> Path:
        """Domain files that xennerd writes for its units."""
        return written_config_dir(self.runtime_dir)

    def backend(self, daemon: str) -> Path:
        """The status socket of blkbackd or netbackd."""
        return self.runtime_dir / f"{daemon}.socket"

    def vmcore(self, domid: Domid) -> Path:
        """A domain's memory."""
        return vmcore_path(self.runtime_dir, domid)

    def console(self, domid: Domid) -> Path:
        """The link that leads to a console's terminal."""
        return self.runtime_dir / f"console.{domid}"

    def device_model_pid(self, domid: Domid) -> Path:
        """The number of the domain's QEMU."""
        return self.runtime_dir / f"qdisk.{domid}.pid"

    def monitor(self, domid: Domid) -> Path:
        """The socket of a domain's monitor, or the link that leads there."""
        return monitor_path(self.runtime_dir, domid)


def evtchnd_path(runtime_dir: Path) -> Path:
    """evtchnd's socket."""
    return runtime_dir / "evtchnd.socket"


def written_config_dir(runtime_dir: Path) -> Path:
    """Domain files that xennerd writes for its units."""
    return runtime_dir / "config"


def vmcore_path(runtime_dir: Path, domid: Domid) -> Path:
    """A domain's memory."""
    return runtime_dir / f"vmcore.{domid}"


def record_path(runtime_dir: Path, domid: Domid) -> Path:
    """What is written down of a domain."""
    return runtime_dir / f"domain.{domid}"


def monitor_path(runtime_dir: Path, domid: Domid) -> Path:
    """The socket of a domain's monitor, or the link that leads there."""
    return runtime_dir / f"monitor.{domid}"


def runtime_dir_of(environment: Mapping[str, str]) -> Path:
    """What the environment says; else /run/xenner, or the machine's shared
    memory where /run is no tmpfs."""
    if given := environment.get("XENNER_RUNTIME_DIR"):
        return Path(given)
    if _is_tmpfs(RUNTIME_DIR.parent) or not _is_tmpfs(SHARED_MEMORY_DIR.parent):
        return RUNTIME_DIR
    return SHARED_MEMORY_DIR


def xenstore_of(environment: Mapping[str, str]) -> Path:
    """As Xen's own libxenstore has it."""
    if given := environment.get("XENSTORED_PATH"):
        return Path(given)
    return Path(environment.get("XENSTORED_RUNDIR") or _XENSTORED_DIR, "socket")


def log_dir_of(environment: Mapping[str, str]) -> Path:
    """What the environment says, or where it is."""
    return Path(environment.get("XENNER_LOG_DIR") or LOG_DIR)


def check_runtime_dir(path: Path) -> None:
    """HostError: it is where anybody may make it, and is neither ours nor
    root's, or others write there: its sockets and vmcores may be anybody's.

    /dev/shm is sticky: once it is found good, nobody else puts another in its
    place. One that is not there yet is good; make_runtime_dir() looks again.
    """
    if path != SHARED_MEMORY_DIR:
        return
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    hint = "XENNER_RUNTIME_DIR can name another directory"
    if not stat.S_ISDIR(status.st_mode):
        raise HostError(f"{path} is no directory", hint)
    if status.st_uid not in (0, os.geteuid()):
        raise HostError(f"{path} belongs to user {status.st_uid}", hint)
    if status.st_mode & stat.S_IWOTH:
        raise HostError(f"everybody may write to {path}", hint)


def make_runtime_dir(path: Path, *, with_parents: bool = False) -> None:
    """Make it unless it is there. HostError as check_runtime_dir(); OSError."""
    check_runtime_dir(path)
    path.mkdir(mode=0o755, parents=with_parents, exist_ok=True)
    check_runtime_dir(path)


def filesystem_of(status: os.stat_result) -> str:
    """Type of the filesystem that holds a file (proc_pid_mountinfo(5))."""
    device = status.st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == wanted:
            return source.split()[0]
    return "unknown"


def _is_tmpfs(path: Path) -> bool:
    try:
        return filesystem_of(path.stat()) == "tmpfs"
    except OSError:
        return False
