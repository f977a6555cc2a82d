# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models: an unmodified QEMU, Xen's build of it, one process for each
domain that has devices which it serves, as xl has it.

The processes outlive blkbackd: a guest keeps its disk when blkbackd restarts.
Calls block.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from xenner.errors import HostError
from xenner.libxenstore import Store
from xenner.paths import Paths
from xenner.types import Domid

KINDS = ("qdisk",)
"""The backends below /local/domain/0/backend that it serves."""

_log = logging.getLogger(__name__)
_DEFAULT = "/usr/libexec/xen-qemu-system-i386"
_END_LIMIT_S = 10.0
_OPTIONS = (
    *("-machine", "xenpv", "-xen-attach", "-nodefaults", "-no-user-config"),
    *("-nographic", "-monitor", "none", "-serial", "none"),
)

Refuse = Callable[[Store, str, str], None]
"""A device, by its backend's path, cannot go on, and why."""


@dataclass
class DeviceModels:
    """The processes by their domains. Any thread may call."""

    store: Store
    refuse: Refuse
    _users: dict[Domid, set[str]] = field(default_factory=dict)
    _pidfds: dict[Domid, int] = field(default_factory=dict)
    # Of each domain's last process: it has let go of all images.
    _ended: dict[Domid, threading.Event] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_closed: bool = False

    def close(self) -> None:
        """The store is not touched again. The processes go on."""
        with self._lock:
            self._is_closed = True

    def hold(self, domid: Domid, path: str) -> None:
        """A device that needs the domain's. HostError: there is none to be had.
        Twice is once."""
        self.wait_ended(domid)
        with self._lock:
            users = self._users.setdefault(domid, set())
            if domid not in self._pidfds:
                pidfd = _find(domid) or _start(domid)
                self._pidfds[domid] = pidfd
                self._ended[domid] = threading.Event()
                threading.Thread(
                    target=self._wait,
                    args=(domid, pidfd, self._ended[domid]),
                    daemon=True,
                ).start()
            users.add(path)

    def release(self, domid: Domid, path: str) -> None:
        """The device has gone; with the last one the process is told to end,
        also if it was one before us who had started it."""
        with self._lock:
            self._users.get(domid, set()).discard(path)
            if self._has_devices(domid):
                return
            if (pidfd := self._pidfds.pop(domid, None)) is not None:
                _tell_to_end(pidfd)
            elif (pidfd := _find(domid)) is not None:
                _tell_to_end(pidfd)
                os.close(pidfd)
            _pid_file(domid).unlink(missing_ok=True)

    def wait_ended(self, domid: Domid) -> None:
        """Until the process has ended that was told to, if there is one: it
        writes what it has not written yet into its images. One that does not
        end in time is not waited for."""
        with self._lock:
            is_told = domid not in self._pidfds
            ended = self._ended.get(domid)
        if is_told and ended is not None:
            ended.wait(_END_LIMIT_S)

    def release_stale(self) -> None:
        """End those whose last device went while nobody kept them."""
        for file in Paths.of(os.environ).runtime_dir.glob("qdisk.*.pid"):
            domid = file.name.split(".")[1]
            if domid.isdigit():
                self.release(Domid(int(domid)), "")

    def _has_devices(self, domid: Domid) -> bool:
        return any(
            self.store.read(f"{top}/{name}/frontend") is not None
            for top in (f"backend/{kind}/{domid}" for kind in KINDS)
            for name in self.store.children(top)
        )

    def _wait(self, domid: Domid, pidfd: int, ended: threading.Event) -> None:
        """Until it has ended. What it served cannot go on then."""
        ending = select.poll()  # not select(), which ends at 1024
        ending.register(pidfd, select.POLLIN)
        ending.poll()
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        ended.set()
        with self._lock:
            is_told = self._pidfds.get(domid) != pidfd
            if not is_told:
                del self._pidfds[domid]
            paths = [] if is_told else [*self._users.pop(domid)]
            os.close(pidfd)
            # The store may be gone as soon as the lock is let go.
            for path in () if self._is_closed else paths:
                # And so it may by itself: its follower says so.
                with suppress(HostError):
                    self.refuse(self.store, path, "its QEMU has ended")


def is_ours() -> bool:
    """On Xen itself libxl starts those processes."""
    return Paths.of(os.environ).evtchnd.exists()


def _tell_to_end(pidfd: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)


def _pid_file(domid: Domid) -> Path:
    return Paths.of(os.environ).device_model_pid(domid)


def _find(domid: Domid) -> int | None:
    """The pidfd of one that was started by a blkbackd before us."""
    try:
        pid = int(_pid_file(domid).read_text())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return None
    # Perhaps another process has its number by now.
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"-xen-attach" in words and f"blkbackd-{domid}".encode() in words:
            return pidfd
    os.close(pidfd)
    return None


def _start(domid: Domid) -> int:
    program = os.environ.get("XENNER_QDISK") or _DEFAULT
    command = [
        *(program, "-xen-domid", str(domid), "-name", f"blkbackd-{domid}"),
        *_OPTIONS,
    ]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise HostError(
            f"{program}: {error.strerror}",
            "Debian's package qemu-system-xen has it",
        ) from error
    file = _pid_file(domid)
    with ExitStack() as on_fail:
        on_fail.callback(process.wait)
        on_fail.callback(process.kill)
        try:
            pidfd = os.pidfd_open(process.pid)
            on_fail.callback(os.close, pidfd)
            # One that nobody finds again would go on for ever.
            file.write_text(f"{process.pid}\n")
        except OSError as error:
            raise HostError(f"{file}: {error.strerror}") from error
        on_fail.pop_all()
    # The descriptor says when it ends; subprocess need not wonder.
    process.returncode = 0
    _log.info(
        f"domain {domid}: QEMU serves its qdisks, process {process.pid}",
        extra={"XENNER_DOMID": str(domid)},
    )
    return pidfd
