# SPDX-License-Identifier: GPL-2.0-or-later
"""xenstore as Debian's own kernel uses it, with Debian's own clients."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.support.evtchnd import TOP, library
from tests.support.services import (
    DOMID,
    HANDLE,
    Guest,
    Host,
    make_disk,
    open_host,
)

# The lab's root has no xenstore clients, and Xen's protocol does not depend
# on whose virtualisation the guest runs on.
pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

_MIB = 1 << 20
_TARGET = "memory/target"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disk(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def host(usable_kvm: None, debian_kernel: Path, disk: Path) -> Iterator[Host]:
    """A host that ends without a complaint and leaves no guest's memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        with open_host(Path(name), debian_kernel, disk) as host:
            yield host
        assert not list(Path(name).glob("vmcore*"))


def test_xenbus_comes_up(host: Host) -> None:
    guest = host.boot()
    assert host.read("control/feature-poweroff") == "1"
    assert host.read("domid") == str(DOMID)
    inside = guest.do(f"xenstore-ls /local/domain/{DOMID}/control")
    outside = host.run("xenstore-ls", f"/local/domain/{DOMID}/control")
    assert 'feature-poweroff = "1"' in outside
    assert outside in inside
    assert guest.do("xenstore-read name").splitlines()[-1] == "web"
    # What is the guest's own it writes, what is domain 0's it does not.
    guest.do("xenstore-write data/from-inside yes")
    assert host.read("data/from-inside") == "yes"
    guest.do("! xenstore-write name other")
    assert host.read("name") == "web"


def test_nodes_go_with_the_guest(host: Host) -> None:
    guest = host.boot()
    guest.do("xenstore-write data/x 1")
    guest.type("poweroff -f")
    assert guest.end() == (0, "")
    everything = host.run("xenstore-ls", "-f", "/")
    assert f"domain/{DOMID}" not in everything
    assert f"console/{DOMID}" not in everything
    assert HANDLE not in everything
    assert f"libxl/{DOMID}" not in everything


def test_store_is_killed_and_comes_back(host: Host) -> None:
    guest = host.boot()
    guest.do("xenstore-write data/before 1")
    host.stop_store(signal.SIGKILL)
    host.start_store()
    assert host.read("data/before") == "1"
    guest.do("xenstore-write data/after 2")
    assert host.read("data/after") == "2"
    # The kernel's watch of before still fires; the nodes go in the end.
    guest.process.terminate()
    status, messages = guest.end()
    assert (status, messages) == (0, "")
    assert f"domain/{DOMID}" not in host.run("xenstore-ls", "-f", "/")


def test_evtchnd_is_killed_and_comes_back(host: Host) -> None:
    """The guest's requests go on without it and the console too."""
    guest = host.boot()
    guest.type(
        "i=0; while [ $i -lt 300 ]; do i=$((i+1)); "
        "xenstore-write data/i $i || break; done; echo WROTE''-$i"
    )
    host.wait_node("data/i", "")
    for _ in range(3):
        host.evtchnd.stop(signal.SIGKILL)
        host.evtchnd.start()
    guest.wait_for("WROTE-300")
    # Who comes now is told of it, and a store that binds its ring anew.
    host.stop_store()
    host.start_store()
    guest.do("xenstore-write data/after 1")
    assert host.read("data/after") == "1"
    guest.process.terminate()
    assert guest.end() == (0, "")


def test_both_are_killed_and_the_guest_is_late(host: Host) -> None:
    """Nobody has told the new evtchnd of it when the new store asks."""
    guest = host.boot()
    guest.process.send_signal(signal.SIGSTOP)
    host.evtchnd.stop(signal.SIGKILL)
    host.stop_store(signal.SIGKILL)
    host.evtchnd.start()
    host.start_store()
    assert host.read("name") == "web"
    guest.process.send_signal(signal.SIGCONT)
    guest.do("xenstore-write data/after 1")
    assert host.read("data/after") == "1"


def test_a_guest_that_is_killed_while_evtchnd_is_not_there(host: Host) -> None:
    guest = host.boot()
    with subprocess.Popen(
        ["xenstore-watch", "-n", "2", "@releaseDomain"],
        env={**os.environ, "XENSTORED_PATH": str(host.socket)},
        stdout=subprocess.PIPE,
    ) as released:
        assert released.stdout is not None
        try:
            # The first event says only that the watch is there.
            assert released.stdout.readline() == b"@releaseDomain\n"
            host.evtchnd.stop(signal.SIGKILL)
            guest.process.kill()
            guest.process.wait()
            host.evtchnd.start()
            released.wait(limit_s(20))
        finally:
            released.kill()
    # Its nodes are its supervisor's to remove.
    host.vmcore.unlink()


def test_request_to_a_dead_store_waits_for_the_next_one(host: Host) -> None:
    guest = host.boot()
    host.stop_store(signal.SIGKILL)
    guest.type("xenstore-read name; echo AF''TER")
    host.start_store()
    assert "web" in guest.wait_for("AFTER")


# control/shutdown


def test_sigterm_asks_the_guest(host: Host) -> None:
    guest = host.boot()
    guest.process.terminate()
    assert guest.end() == (0, "")
    assert "XENNER-POWEROFF" in guest.console


def test_a_second_sigterm_needs_no_guest(host: Host) -> None:
    guest = host.boot()
    # Its kernel asks init to power off, and this one does not care.
    guest.do("printf '#!/bin/sh\\necho REFUSED >/dev/console' >/sbin/poweroff")
    guest.process.terminate()
    guest.wait_for("REFUSED")
    assert guest.process.poll() is None
    guest.process.terminate()
    assert guest.end() == (0, "")


def test_sigterm_without_a_store_ends_the_guest(host: Host) -> None:
    guest = host.boot()
    host.stop_store()
    guest.process.terminate()
    status, messages = guest.end()
    assert status == 0
    assert "cannot ask the guest to power off" in messages
    assert "XENNER-POWEROFF" not in guest.console


def test_system_powerdown_asks_the_guest(host: Host) -> None:
    monitor = host.directory / "qmp"
    guest = host.boot("-monitor", f"unix:{monitor}")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(limit_s(20))
        client.connect(str(monitor))
        with client.makefile("rw") as lines:
            for name in ("qmp_capabilities", "system_powerdown"):
                lines.write(json.dumps({"execute": name}) + "\n")
            lines.flush()
            told = [json.loads(line) for line in lines]
    assert not [message for message in told if "error" in message]
    events = [message["event"] for message in told if "event" in message]
    assert events == ["POWERDOWN", "SHUTDOWN"]
    assert guest.end() == (0, "")
    assert "XENNER-POWEROFF" in guest.console


def test_reboot_writes_the_nodes_anew(host: Host) -> None:
    guest = host.boot()
    guest.do("xenstore-write data/x 1")
    host.write("control/shutdown", "reboot")
    guest.wait_for("XENNER-INIT")
    everything = host.run("xenstore-ls", "-f", "/")
    assert f"{DOMID}/data = " in everything
    assert "data/x" not in everything
    assert host.read("control/feature-poweroff") == "1"
    assert guest.do("xenstore-read name").splitlines()[-1] == "web"
    guest.process.terminate()
    assert guest.end() == (0, "")


def test_suspend_is_called_off(host: Host) -> None:
    """There is nobody to wake it: it goes on as if nothing had been."""
    guest = host.boot()
    host.write("control/shutdown", "suspend")
    guest.do("until [ -z $(xenstore-read control/shutdown) ]; do :; done")
    guest.do("until dmesg | grep -q 'Restarting tasks'; do :; done")
    assert guest.do("xenstore-read name").splitlines()[-1] == "web"
    guest.process.terminate()
    assert guest.end() == (0, "")


def test_sysrq(host: Host) -> None:
    guest = host.boot(cmdline="loglevel=7")
    host.write("control/sysrq", "h")
    guest.wait_for("sysrq: HELP")
    guest.process.terminate()
    assert guest.end() == (0, "")


# -serial xenconsoled


@contextmanager
def xenconsoled(host: Host) -> Iterator[None]:
    """Debian's, as it is, on the drop-in libraries."""
    root = TOP / "build/xen-utils"
    program = root / "usr/lib/xen-4.17/bin/xenconsoled"
    if not program.exists():
        pytest.skip("packages: xen-utils-4.17 is not unpacked")
    libs = [library("xenevtchn").parent, root / "usr/lib/x86_64-linux-gnu"]
    environment = {
        **host.evtchnd.environment(),
        "XENSTORED_PATH": str(host.socket),
        "LD_LIBRARY_PATH": ":".join(map(str, libs)),
    }
    pidfile = f"--pid-file={host.directory / 'xenconsoled.pid'}"
    with subprocess.Popen([program, "-i", pidfile], env=environment) as daemon:
        try:
            yield
            assert daemon.poll() is None
        finally:
            daemon.kill()


def test_console_by_xenconsoled(host: Host) -> None:
    with xenconsoled(host):
        guest = host.boot("-serial", "xenconsoled", is_up=False)
        host.wait_node("console/tty", "/dev/")
        fd = os.open(host.read("console/tty"), os.O_RDWR | os.O_NOCTTY)
        said = b""
        for wanted, typed in (
            (b"XENNER-INIT", b"echo T''YPED\n"),
            (b"TYPED", b"exec poweroff -f\n"),
        ):
            while wanted not in said:
                assert select.select([fd], [], [], limit_s(60))[0], said
                said += os.read(fd, 4096)
            os.write(fd, typed)
        assert guest.end() == (0, "")
        os.close(fd)
    assert guest.console == ""


# memory/target


def memory_kib(guest: Guest) -> int:
    """What the guest's kernel says that it has."""
    line = guest.do("grep MemTotal /proc/meminfo")
    return int(line.split("MemTotal:")[1].split()[0])


def wait_memory_kib(guest: Guest, at_least: int, at_most: int) -> None:
    """Until the guest says that it has so much."""
    guest.do(
        "while read -r _ kib _ </proc/meminfo;"
        f" [ $kib -lt {at_least} ] || [ $kib -gt {at_most} ]; do :; done"
    )


def test_memory_follows_the_target_both_ways(host: Host) -> None:
    guest = host.boot("-d", "stats")
    total_kib, used_bytes = memory_kib(guest), host.used_bytes()
    target_kib = int(host.read(_TARGET))
    nr_kib = 64 << 10
    room = os.statvfs(host.directory)
    free_bytes = room.f_bavail * room.f_frsize

    host.write(_TARGET, str(target_kib - nr_kib))
    wait_memory_kib(guest, 0, total_kib - nr_kib)
    assert memory_kib(guest) == total_kib - nr_kib
    assert host.used_bytes() == used_bytes - 64 * _MIB
    room = os.statvfs(host.directory)
    assert room.f_bavail * room.f_frsize > free_bytes + 32 * _MIB

    # Who reads what is not there reads zeros, and it stays away.
    data = host.vmcore.read_bytes()
    assert len(data) == host.vmcore.stat().st_size
    assert host.used_bytes() == used_bytes - 64 * _MIB

    host.write(_TARGET, str(target_kib))
    wait_memory_kib(guest, total_kib, total_kib)
    assert host.used_bytes() == used_bytes
    # All of it can be used.
    guest.do(
        "mount -t tmpfs none /tmp && dd if=/dev/zero of=/tmp/x bs=1M"
        " count=90 2>/dev/null && rm /tmp/x"
    )

    guest.process.terminate()
    status, messages = guest.end()
    assert status == 0
    numbers = json.loads(messages.splitlines()[-1])
    # 64 pages a request: 32,768 pages went and came.
    assert numbers["exits_to_userspace"] < 2000


def test_reboot_gives_all_memory_again(host: Host) -> None:
    guest = host.boot()
    total_kib = memory_kib(guest)
    target_kib = int(host.read(_TARGET)) - (32 << 10)
    host.write(_TARGET, str(target_kib))
    wait_memory_kib(guest, 0, total_kib - (32 << 10))
    host.write("control/shutdown", "reboot")
    guest.wait_for("XENNER-INIT")
    assert memory_kib(guest) == total_kib
    guest.process.terminate()
    assert guest.end() == (0, "")
