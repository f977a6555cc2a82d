# SPDX-License-Identifier: GPL-2.0-or-later
"""Our store hears from evtchnd when a domain ends."""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from evtchnd.messages import Type
from tests.component.evtchnd.guestprocess import GuestProcess
from tests.support.evtchnd import LIMIT_S, TOP, Client, Daemon
from xenner.types import Domid, Mfn, Port
from xenner.xenstore import Xenstore, XenstoreError

_STORE_MFN = 2100
_REBOOT = 1  # SHUTDOWN_reboot, xen/sched.h


@dataclass(frozen=True)
class Store:
    """The store's process, a client of it, who watches @releaseDomain."""

    client: Xenstore
    runtime_dir: Path
    released: IO[bytes]
    process: subprocess.Popen[bytes]

    def introduce(
        self, launcher: Client, guest: GuestProcess, domid: int = 1
    ) -> None:
        """A domain that comes to life, with a node of its own."""
        guest.register(launcher, domid)
        vmcore = self.runtime_dir / f"vmcore.{domid}"
        vmcore.touch()
        os.truncate(vmcore, 16 << 20)
        assert guest.ask(f"attach {vmcore}") == "error=0"
        port = launcher.must(Type.ALLOC_UNBOUND, dom=domid, remote_dom=0).port
        self.client.introduce(Domid(domid), Mfn(_STORE_MFN), Port(port))
        path = f"/local/domain/{domid}"
        self.client.write(path, "")
        self.client.set_perms(path, f"n{domid}")

    def has(self, domid: int) -> bool:
        try:
            self.client.read(f"/local/domain/{domid}")
        except XenstoreError:
            return False
        return True

    def wait_released(self) -> None:
        """Until the watch has fired once more."""
        assert self.released.readline() == b"@releaseDomain\n"


@contextmanager
def _running(daemon: Daemon) -> Iterator[subprocess.Popen[bytes]]:
    path = daemon.runtime_dir / "xenstore"
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "xenstored", "--socket", path),
            *("--evtchnd", daemon.path, "--runtime-dir", daemon.runtime_dir),
        ],
        cwd=TOP,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(LIMIT_S) == 0


@pytest.fixture
def store(daemon: Daemon) -> Iterator[Store]:
    if not shutil.which("xenstore-watch"):
        pytest.skip("packages: xenstore-utils is not installed")
    path = daemon.runtime_dir / "xenstore"
    with (
        _running(daemon) as process,
        Xenstore(path) as client,
        subprocess.Popen(
            ["xenstore-watch", "@releaseDomain"],
            env={**os.environ, "XENSTORED_PATH": str(path)},
            stdout=subprocess.PIPE,
        ) as watch,
    ):
        assert watch.stdout is not None
        store = Store(client, daemon.runtime_dir, watch.stdout, process)
        # The first is that the watch is there.
        store.wait_released()
        try:
            yield store
        finally:
            watch.kill()


def test_one_that_is_killed_is_released(
    store: Store, daemon: Daemon, guest_process: GuestProcess
) -> None:
    with Client(daemon.path) as launcher:
        store.introduce(launcher, guest_process)
        guest_process.end()
        store.wait_released()
    assert not store.has(1)


def test_one_that_shuts_down_is_told_of_and_stays(
    store: Store, daemon: Daemon, guest_process: GuestProcess
) -> None:
    with Client(daemon.path) as launcher:
        store.introduce(launcher, guest_process)
        launcher.must(Type.SHUTDOWN, dom=1, value=(_REBOOT, 0))
        store.wait_released()
        assert store.has(1)
        launcher.must(Type.UNREGISTER, dom=1)
        store.wait_released()
    assert not store.has(1)


def test_one_that_a_new_evtchnd_has_not_seen_yet_stays(
    store: Store, daemon: Daemon, guest_process: GuestProcess
) -> None:
    other = GuestProcess(daemon)
    try:
        with Client(daemon.path) as launcher:
            store.introduce(launcher, guest_process)
        daemon.stop(signal.SIGKILL)
        daemon.start()
        with Client(daemon.path) as launcher:
            store.introduce(launcher, other, 2)
            other.end()
            store.wait_released()
    finally:
        other.close()
    assert not store.has(2)
    assert store.has(1)


def test_it_ends_while_evtchnd_does_not_answer(
    store: Store, daemon: Daemon, guest_process: GuestProcess
) -> None:
    """As units that are stopped at the same time: the service manager has
    evtchnd's socket, and who connects waits. It has a guest's port to close
    as well."""
    with Client(daemon.path) as launcher:
        store.introduce(launcher, guest_process)
        daemon.stop()
        assert select.select([daemon.listener], [], [], LIMIT_S)[0]
        store.process.terminate()
        # Less than evtchnd is given to answer.
        assert store.process.wait(LIMIT_S / 3) == 0
        daemon.start()
