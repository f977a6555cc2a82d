# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's own programs, as Debian has them, on the drop-in libraries."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import pytest

from tests.environments.rules import limit_s
from tests.support.evtchnd import TOP, library
from tests.support.services import DOMID, Guest, Host
from xenner.xenstore import Xenstore

_UNPACKED = TOP / "build/xen-utils"
_BIN = "usr/lib/xen-4.17/bin"
_QEMU = "usr/libexec/xen-qemu-system-i386"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
# What the programs have compiled in and a host without Xen has not. Each
# sees a mount namespace of its own.
_OXENSTORED = """\
mount -t tmpfs none /run && mkdir /run/xenstored &&
mount --bind "$XENSTORED_RUNDIR" /run/xenstored && exec "$@"
"""
_XENTOP = """\
mount -t tmpfs none /sys/bus && mkdir -p /sys/bus/xen-backend/devices &&
exec "$@"
"""
_INIT_DOM0 = """\
mount -t tmpfs none /var/lib && mkdir /var/lib/xen && exec "$@"
"""
_WRAPPED = {
    "oxenstored": _OXENSTORED,
    "xentop": _XENTOP,
    "xen-init-dom0": _INIT_DOM0,
}
_OXENSTORED_CONF = """\
pid-file = {directory}/pid
xenstored-port = /proc/xen/xsd_port
xenstored-kva = /proc/xen/xsd_kva
persistent = false
xenstored-log-file = {directory}/log
access-log-file = {directory}/access-log
"""


class StoreKind(StrEnum):
    """Who serves xenstore."""

    OURS = "xenstored"
    C = "xenstored"
    OCAML = "oxenstored"


def program(name: str) -> Path:
    """One of Xen's programs, unpacked; skips where it is not."""
    path = _UNPACKED / (_QEMU if name == "qemu" else f"{_BIN}/{name}")
    if not path.exists():
        pytest.skip(f"packages: {name} is not unpacked: run tools/setup")
    return path


@dataclass
class ToolHost(Host):
    """A host on which Xen's programs find everything."""

    kind: StoreKind = StoreKind.OURS

    @property
    def socket(self) -> Path:
        """Where libxenstore looks, whoever serves it."""
        return self._store_dir / "socket"

    @property
    def _store_dir(self) -> Path:
        return self.directory / "xenstored"

    @property
    def environment(self) -> dict[str, str]:
        """Drop-in libraries before Debian's, sockets in our directory."""
        paths = (library("xenevtchn").parent, _UNPACKED / _LIBRARIES)
        return {
            **self.evtchnd.environment(),
            "LD_LIBRARY_PATH": ":".join(map(str, paths)),
            "XENSTORED_RUNDIR": str(self._store_dir),
            "XENSTORED_PATH": str(self.socket),
        }

    def command(self, name: str, *arguments: str | Path) -> list[str]:
        """A command line, in a mount namespace where it needs one."""
        command = [str(program(name)), *map(str, arguments)]
        if script := _WRAPPED.get(name):
            command = ["unshare", "-m", "sh", "-c", script, name, *command]
        return command

    def tool(self, name: str, *arguments: str | Path) -> str:
        """What one of Xen's programs says; it must succeed."""
        done = subprocess.run(
            self.command(name, *arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s(30),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start_store(self) -> None:
        """The store of our kind; xenstored and oxenstored begin empty."""
        self._store_dir.mkdir(exist_ok=True)
        if self.kind is StoreKind.OURS:
            super().start_store()
            return
        arguments = ["-N"]
        if self.kind is StoreKind.OCAML:
            conf = self._store_dir / "conf"
            conf.write_text(_OXENSTORED_CONF.format(directory=self._store_dir))
            arguments = ["--no-fork", "--config-file", str(conf)]
        self.store = subprocess.Popen(
            self.command(self.kind, *arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wait_socket(self.socket, self.store)

    def stop_store(self, number: int = signal.SIGTERM) -> int:
        """Theirs know no other end than this."""
        if self.kind is StoreKind.OURS:
            return super().stop_store(number)
        assert self.store is not None
        has_ended = self.store.poll() is not None
        self.store.kill()
        said, _ = self.store.communicate(timeout=limit_s(20))
        self.store = None
        assert not has_ended, said
        return 0


def wait_socket(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a daemon that tells nobody listens there. Fails if it ends."""
    deadline = time.monotonic() + limit_s(20)
    while not path.is_socket():
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            assert time.monotonic() < deadline, f"no {path}"
        else:
            assert process.stdout is not None
            pytest.fail(f"it has ended: {process.stdout.read()!r}")


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the guest's as a toolstack writes it, before both ends."""

    frontend: str  # vfb
    backend: str  # vfb, but qdisk for vbd
    number: int
    front: dict[str, str]
    back: dict[str, str]

    def add(self, store_socket: Path) -> None:
        """Front and back at once; each end may write its own nodes."""
        front = f"/local/domain/{DOMID}/device/{self.frontend}/{self.number}"
        back = f"/local/domain/0/backend/{self.backend}/{DOMID}/{self.number}"
        ends = (
            (
                front,
                (f"n{DOMID}", "r0"),
                {"backend": back, "backend-id": "0", "state": "1"} | self.front,
            ),
            (
                back,
                ("n0", f"r{DOMID}"),
                {
                    "frontend": front,
                    "frontend-id": str(DOMID),
                    "online": "1",
                    "state": "1",
                }
                | self.back,
            ),
        )
        with Xenstore(store_socket) as store:
            tx = store.start_transaction()
            for top, perms, nodes in ends:
                store.write(top, "", tx=tx)
                store.set_perms(top, *perms, tx=tx)
                for name, value in nodes.items():
                    store.write(f"{top}/{name}", value, tx=tx)
                    store.set_perms(f"{top}/{name}", *perms, tx=tx)
            assert store.end_transaction(tx, commits=True)


@dataclass(frozen=True, slots=True)
class Qemu:
    """Xen's QEMU as the backend of one guest, and its QMP."""

    process: subprocess.Popen[bytes]
    monitor: IO[str]

    def do(self, execute: str, **arguments: Any) -> dict[str, Any]:
        """A command of QMP's; it must succeed."""
        command = {"execute": execute, "arguments": arguments}
        self.monitor.write(json.dumps(command) + "\n")
        self.monitor.flush()
        while True:
            line = self.monitor.readline()
            assert line, "QEMU has ended"
            answer: dict[str, Any] = json.loads(line)
            assert "error" not in answer, answer
            if "return" in answer:
                return answer


@contextmanager
def open_qemu(host: ToolHost, *options: str) -> Iterator[Qemu]:
    """As a toolstack starts it beside a PV guest."""
    ours, theirs = socket.socketpair()
    command: list[str | Path] = [
        program("qemu"),
        *("-M", "xenpv", "-xen-attach", "-xen-domid", str(DOMID)),
        *("-nodefaults", "-no-user-config", "-name", "web"),
        *("-display", "none", "-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=qmp,fd={theirs.fileno()}"),
        *options,
    ]
    with (
        ours,
        ours.makefile("rw") as monitor,
        subprocess.Popen(
            command, env=host.environment, pass_fds=[theirs.fileno()]
        ) as process,
    ):
        theirs.close()
        ours.settimeout(limit_s(30))
        qemu = Qemu(process, monitor)
        try:
            qemu.do("qmp_capabilities")
            yield qemu
        finally:
            process.kill()


@contextmanager
def open_xenconsoled(host: ToolHost, log_dir: Path) -> Iterator[None]:
    """xenconsoled, with a log of each guest; it runs to the end."""
    log_dir.mkdir()
    command = host.command(
        "xenconsoled",
        *("-i", "--log=guest", f"--log-dir={log_dir}"),
        f"--pid-file={host.directory / 'xenconsoled.pid'}",
    )
    with subprocess.Popen(command, env=host.environment) as daemon:
        try:
            yield
            assert daemon.poll() is None
        finally:
            daemon.kill()


@contextmanager
def open_xenconsole(host: ToolHost) -> Iterator[Guest]:
    """The guest's console through Xen's client."""
    with subprocess.Popen(
        host.command("xenconsole", "--interactive", str(DOMID)),
        env=host.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield Guest(process)
        finally:
            process.kill()


def pixels(path: Path) -> bytes:
    """Those of a PPM file, three bytes each."""
    kind, _size, depth, rest = path.read_bytes().split(b"\n", 3)
    assert (kind, depth) == (b"P6", b"255")
    return rest


def nr_host_cpus() -> int:
    return os.cpu_count() or 1
