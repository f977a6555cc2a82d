# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own xenstored, as it is, on the drop-in libraries."""

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evtchnd.messages import Type
from evtchnd.ports import State
from tests.component.evtchnd.guestprocess import GuestProcess
from tests.environments.rules import limit_s
from tests.support.evtchnd import (
    LIMIT_S,
    TOP,
    Client,
    Daemon,
    library,
)
from xenner import abi

# Where the package has it, or where it was only unpacked to.
_ROOTS = (Path("/"), TOP / "build/xen-utils")
_STORE_MFN = 2100
_GTF_PERMIT_ACCESS = 1
_GNTTAB_RESERVED_XENSTORE = 1
_XS_INTRODUCE = 8
_XS_READ = 2
_HEADER = struct.Struct("<IIII")  # type, req_id, tx_id, len: xs_wire.h


def _found(pattern: str) -> Path:
    for root in _ROOTS:
        for path in sorted(root.glob(pattern)):
            return path
    pytest.skip("packages: xen-utils-4.17 is neither installed nor unpacked")


class Store:
    """A running xenstored and how to talk to it."""

    def __init__(self, daemon: Daemon, rundir: Path) -> None:
        if not shutil.which("xenstore-ls"):
            pytest.skip("packages: xenstore-utils is not installed")
        program = _found("usr/lib/xen-4.17/bin/xenstored")
        libxenctrl = _found("usr/lib/x86_64-linux-gnu/libxenctrl.so.4.17")
        libs = [library("xenevtchn").parent, libxenctrl.parent]
        rundir.mkdir()
        self.path = rundir / "socket"
        self.environment = {
            **daemon.environment(),
            "LD_LIBRARY_PATH": ":".join(map(str, libs)),
            "XENSTORED_RUNDIR": str(rundir),
            "XENSTORED_PATH": str(self.path),
        }
        # It lets go of its output when it is ready (finish_daemonize), or ends.
        done = subprocess.run(
            [program, "--pid-file", rundir / "pid"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
            timeout=LIMIT_S,
        )
        assert self.path.is_socket(), done.stdout
        self.pid = int((rundir / "pid").read_text())

    def run(self, tool: str, *arguments: str) -> str:
        return subprocess.run(
            [tool, *arguments],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        ).stdout

    def request(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        """One of xs_wire.h, over the socket, as a toolstack sends it."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LIMIT_S)
            sock.connect(str(self.path))
            sock.sendall(_HEADER.pack(kind, 0, 0, len(payload)) + payload)
            got, *_rest, size = _HEADER.unpack(
                sock.recv(_HEADER.size, socket.MSG_WAITALL)
            )
            return got, sock.recv(size, socket.MSG_WAITALL)

    def end(self) -> None:
        pidfd = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


@contextmanager
def open_store(daemon: Daemon, rundir: Path) -> Iterator[Store]:
    store = Store(daemon, rundir)
    try:
        yield store
    finally:
        store.end()


@pytest.fixture
def store(daemon: Daemon, tmp_path: Path) -> Iterator[Store]:
    with open_store(daemon, tmp_path / "xenstored") as store:
        yield store


def test_xenstore_ls_talks_to_it(store: Store) -> None:
    assert store.run("xenstore-ls") == 'tool = ""\n xenstored = ""\n'
    store.run("xenstore-write", "/local/domain/0/name", "Domain-0")
    assert store.run("xenstore-read", "/local/domain/0/name") == "Domain-0\n"


def test_it_takes_the_kernels_port(store: Store, daemon: Daemon) -> None:
    with Client(daemon.path) as client:
        port = abi.EVTCHND_XENSTORE_PORT
        status = client.must(Type.STATUS, port=port)
        assert status.status == State.INTERDOMAIN


@pytest.fixture
def vmcore(daemon: Daemon) -> Path:
    """A domain's memory with a store page that is granted to the host."""
    path = daemon.runtime_dir / "vmcore.1"
    path.touch()
    os.truncate(path, 16 << 20)
    entry = struct.pack("<HHI", _GTF_PERMIT_ACCESS, 0, _STORE_MFN)
    with path.open("r+b") as file:
        file.seek(abi.GRANT_FRAMES_GPA + 8 * _GNTTAB_RESERVED_XENSTORE)
        file.write(entry)
    return path


def _write_page(vmcore: Path, offset: int, data: bytes) -> None:
    with vmcore.open("r+b") as file:
        file.seek((_STORE_MFN << 12) + offset)
        file.write(data)


def _read_page(vmcore: Path, offset: int, size: int) -> bytes:
    with vmcore.open("rb") as file:
        file.seek((_STORE_MFN << 12) + offset)
        return file.read(size)


def _flags(vmcore: Path) -> int:
    with vmcore.open("rb") as file:
        file.seek(abi.GRANT_FRAMES_GPA + 8 * _GNTTAB_RESERVED_XENSTORE)
        return int.from_bytes(file.read(2), "little")


# struct xenstore_domain_interface of io/xs_wire.h.
_RSP, _REQ_PROD, _RSP_CONS, _RSP_PROD = 1024, 2052, 2056, 2060


@pytest.fixture
def store_port(
    store: Store, daemon: Daemon, guest_process: GuestProcess, vmcore: Path
) -> Iterator[int]:
    """The guest is introduced; its port for the ring. It has a node domid."""
    with Client(daemon.path) as launcher:
        guest_process.register(launcher)
        assert guest_process.ask(f"attach {vmcore}") == "error=0"
        port = launcher.must(Type.ALLOC_UNBOUND, dom=1, remote_dom=0).port
        assert "error=0" in guest_process.ask(f"call LINK port={port}")
        store.run("xenstore-write", "/local/domain/1/name", "guest")
        introduce = f"1\0{_STORE_MFN}\0{port}\0".encode()
        assert store.request(_XS_INTRODUCE, introduce)[0] == _XS_INTRODUCE
        assert _flags(vmcore) & 0x18 == 0x18  # GTF_reading, GTF_writing
        store.run("xenstore-write", "/local/domain/1/domid", "1")
        store.run("xenstore-chmod", "/local/domain/1/domid", "n1")
        yield port


def _read_as_guest(guest: GuestProcess, vmcore: Path, nth: int) -> None:
    """Its node over its ring, for the nth time from 0 on."""
    body = b"domid\0"
    request = _HEADER.pack(_XS_READ, 5, 0, len(body)) + body
    reply = _HEADER.pack(_XS_READ, 5, 0, 1) + b"1"
    _write_page(vmcore, nth * len(request), request)
    end = (nth + 1) * len(request)
    _write_page(vmcore, _REQ_PROD, struct.pack("<I", end))
    assert guest.ask("ring") == "rung"
    # One interrupt for each piece that it wrote: wait for the last.
    at, end = nth * len(reply), (nth + 1) * len(reply)
    while int.from_bytes(_read_page(vmcore, _RSP_PROD, 4), "little") < end:
        assert guest.ask("irq") != "silence"
    assert _read_page(vmcore, _RSP + at, len(reply)) == reply
    _write_page(vmcore, _RSP_CONS, struct.pack("<I", end))


def test_a_guest_reads_over_its_ring(
    store_port: int, guest_process: GuestProcess, vmcore: Path
) -> None:
    _read_as_guest(guest_process, vmcore, 0)
    assert guest_process.ask(f"pending {store_port}") == "1"


def _nr_fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_it_updates_itself(
    store: Store, store_port: int, guest_process: GuestProcess, vmcore: Path
) -> None:
    """exec(2) in its place: the guest goes on, no descriptor is left over."""
    control = _found("usr/lib/xen-4.17/bin/xenstore-control")
    program = os.readlink(f"/proc/{store.pid}/exe")
    nr_fds = 0
    for life in range(3):
        _read_as_guest(guest_process, vmcore, life)
        store.run(str(control), "live-update", program)
        nr_fds = nr_fds or _nr_fds(store.pid)
    assert "-U" in Path(f"/proc/{store.pid}/cmdline").read_text().split("\0")
    # The connection of who asked is let go a moment later.
    deadline = time.monotonic() + limit_s(20)
    while _nr_fds(store.pid) > nr_fds:
        assert time.monotonic() < deadline
    _read_as_guest(guest_process, vmcore, 3)
    watch = ["xenstore-watch", "-n", "2", "@releaseDomain"]
    with subprocess.Popen(
        watch, env=store.environment, stdout=subprocess.PIPE
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == b"@releaseDomain\n"
        guest_process.end()
        assert watcher.stdout.readline() == b"@releaseDomain\n"


def test_it_hears_of_a_domains_end(
    store: Store, daemon: Daemon, guest_process: GuestProcess, vmcore: Path
) -> None:
    with Client(daemon.path) as launcher:
        guest_process.register(launcher)
        port = launcher.must(Type.ALLOC_UNBOUND, dom=1, remote_dom=0).port
        watcher = subprocess.Popen(
            ["xenstore-watch", "-n", "2", "@releaseDomain"],
            env=store.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdout is not None
        with watcher:
            # The first line says that the watch is there.
            assert watcher.stdout.readline() == "@releaseDomain\n"
            introduce = f"1\0{_STORE_MFN}\0{port}\0".encode()
            store.request(_XS_INTRODUCE, introduce)
            guest_process.end()
            assert watcher.stdout.readline() == "@releaseDomain\n"


def _wait_until_bound(daemon: Daemon) -> None:
    """Until the store has domain 0's port again."""
    deadline = time.monotonic() + LIMIT_S
    with Client(daemon.path) as client:
        port = abi.EVTCHND_XENSTORE_PORT
        while client.must(Type.STATUS, port=port).status != State.INTERDOMAIN:
            assert time.monotonic() < deadline, "it has let go of domain 0"
            time.sleep(0.02)


def test_it_outlives_evtchnd(
    store: Store, daemon: Daemon, guest_process: GuestProcess, vmcore: Path
) -> None:
    """A restart in between: the domain's end is told all the same."""
    daemon.stop(signal.SIGKILL)
    daemon.start()
    _wait_until_bound(daemon)
    store.run("xenstore-write", "/a", "b")
    test_it_hears_of_a_domains_end(store, daemon, guest_process, vmcore)


def test_a_late_evtchnd_costs_no_domain(store: Store, daemon: Daemon) -> None:
    """It asks what domains there are while nobody can say."""
    daemon.stop(signal.SIGKILL)
    for _ in range(6):
        # What it shares with evtchnd does not block.
        assert select.select([daemon.listener], [], [], LIMIT_S)[0]
        daemon.listener.accept()[0].close()
    daemon.start()
    _wait_until_bound(daemon)
    assert store.run("xenstore-ls") == 'tool = ""\n xenstored = ""\n'
