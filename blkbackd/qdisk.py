# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks in QEMU's formats: an unmodified QEMU, Xen's build of it, serves those
below backend/qdisk, one process for each domain, as xl has it.

The processes outlive us: a guest's disk is not to go because its keeper was
restarted. Calls block.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from blkbackd.config import may_share, may_write
from blkbackd.image_lock import lock_image
from xenner.backend.lines import DeviceLog, reason_of
from xenner.backend.status import Value
from xenner.errors import HostError
from xenner.libxenstore import Store
from xenner.paths import Paths
from xenner.types import Domid
from xenner.xenbus import XenbusState, parse_state

_log = logging.getLogger("blkbackd")
_DEFAULT = "/usr/libexec/xen-qemu-system-i386"
_END_LIMIT_S = 10.0
_OPTIONS = (
    *("-machine", "xenpv", "-xen-attach", "-nodefaults", "-no-user-config"),
    *("-nographic", "-monitor", "none", "-serial", "none"),
)


def _runtime() -> Path:
    return Paths.of(os.environ).runtime_dir


@dataclass
class Qemus:
    """The processes by their domains. Any thread may call."""

    store: Store
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
        """A disk that needs the domain's. HostError: there is none to be had.
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
        """The disk has gone; with the last one the process is told to end,
        also if it was one before us who had started it."""
        with self._lock:
            self._users.get(domid, set()).discard(path)
            if self._has_disks(domid):
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
        """End those whose last disk went while nobody kept them."""
        for file in _runtime().glob("qdisk.*.pid"):
            domid = file.name.split(".")[1]
            if domid.isdigit():
                self.release(Domid(int(domid)), "")

    def _has_disks(self, domid: Domid) -> bool:
        top = f"backend/qdisk/{domid}"
        return any(
            self.store.read(f"{top}/{name}/frontend") is not None
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
                # And so it may by itself: whoever follows it says so.
                with suppress(HostError):
                    _refuse(self.store, path, "its QEMU has ended")


class Qdisk:
    """backend/qdisk/<domid>/<devid>: its process makes all of its life."""

    def __init__(
        self,
        qemus: Qemus,
        store: Store,
        path: str,
        domid: Domid,
        _wake: Callable[[], None],
    ) -> None:
        self._qemus = qemus
        self._store = store
        self._path = path
        self._domid = domid
        self._is_held = False
        # What is claimed, and the descriptor that does it.
        self._image = ""
        self._image_fd = -1

    def step(self) -> bool:
        """False: the disk is no more."""
        # Not its state: QEMU may write that once more when all has gone.
        if self._store.read(f"{self._path}/frontend") is None:
            self._qemus.release(self._domid, self._path)
            self._qemus.wait_ended(self._domid)
            self.close()
            return False
        # The toolstack's last node is the state: the others are there. What
        # begins may have been there before, and gone without our seeing it.
        state = self._store.read(f"{self._path}/state")
        is_new = parse_state(state) is XenbusState.INITIALISING
        if is_new or (
            state is not None and not self._is_held and not self._was_refused()
        ):
            self._is_held = True
            try:
                self._claim_image(is_new=is_new)
                self._qemus.hold(self._domid, self._path)
            except HostError as error:
                _refuse(self._store, self._path, str(error))
        return True

    def _was_refused(self) -> bool:
        """By a blkbackd before us, perhaps. QEMU would begin with it."""
        return self._store.read(f"{self._path}/hotplug-status") == "error"

    def _claim_image(self, *, is_new: bool) -> None:
        """Xen's QEMU locks nothing (hw/block/xen-block.c: a device that it
        emulates may have the same image). HostError: somebody has it."""
        params = self._store.read(f"{self._path}/params") or ""
        path = params.partition(":")[2]
        if path == self._image or not path.startswith("/"):
            return
        self.close()
        mode = self._store.read(f"{self._path}/mode") or ""
        try:
            self._image_fd = _open_claimed(Path(path), mode)
            self._image = path
        except BlockingIOError as error:
            # One that QEMU serves already is served on.
            if is_new:
                raise HostError(
                    f"{path} is in use", "another domain's, or QEMU's?"
                ) from error
            log = DeviceLog(_log, self._path, self._domid)
            log.warning("%s is somebody else's too", path)
        except OSError:
            pass  # QEMU finds that as well.

    def close(self) -> None:
        """Its process goes on."""
        if self._image:
            os.close(self._image_fd)
            self._image = ""

    def statistics(self) -> Mapping[str, Value]:
        """Those are QEMU's own."""
        return {}

    def host_changed(self) -> None:
        """Nothing that it waits for."""


def is_ours() -> bool:
    """On Xen itself libxl starts those processes."""
    return Paths.of(os.environ).evtchnd.exists()


def _refuse(store: Store, path: str, text: str) -> None:
    """As vbds that are refused."""
    text = reason_of(text)
    domid = Domid(int(path.split("/")[2]))
    DeviceLog(_log, path, domid).error("%s", text)
    store.write(f"error/{path}", {"error": text})
    if store.write_existing(f"{path}/state", int(XenbusState.CLOSED)):
        store.write(path, {"hotplug-status": "error", "hotplug-error": text})


def _open_claimed(path: Path, mode: str) -> int:
    """BlockingIOError: somebody has it; OSError."""
    # A FIFO would wait for whoever writes.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not may_share(mode):
            is_device = path.is_block_device()
            lock_image(
                fd, is_read_only=not may_write(mode), is_device=is_device
            )
    except OSError:
        os.close(fd)
        raise
    return fd


def _tell_to_end(pidfd: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)


def _pid_file(domid: Domid) -> Path:
    return _runtime() / f"qdisk.{domid}.pid"


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
