# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel with several vCPUs, and what the host does with them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.qmp import qmp
from tests.support.services import Guest, Host, make_disk, open_host

# The lab's root has no xenstore clients; what vCPUs do to each other there
# is the small kernel smp's.
pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

_ONLINE = "/sys/devices/system/cpu/online"
_PRESENT = "/sys/devices/system/cpu/present"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disk(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def host(usable_kvm: None, debian_kernel: Path, disk: Path) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        with open_host(Path(name), debian_kernel, disk) as host:
            yield host
        assert not list(Path(name).glob("vmcore*"))


def _nr_cpus(guest: Guest) -> int:
    return int(guest.do("nproc").split()[-1])


def _events(guest: Guest, name: str) -> tuple[int, list[int]]:
    """Number of the guest's interrupt, and how often each vCPU had it."""
    line = guest.do(f"grep '{name}$' /proc/interrupts").splitlines()[-1]
    irq, counts = line.split(":")
    return int(irq), [int(word) for word in re.findall(r"\b\d+\b", counts)]


def test_taken_down_and_up_from_inside(host: Host) -> None:
    guest = host.boot("-smp", "3")
    assert _nr_cpus(guest) == 3
    for _ in range(3):
        guest.do("echo 0 >/sys/devices/system/cpu/cpu1/online")
        assert guest.do(f"cat {_ONLINE}").split()[-1] == "0,2"
        guest.do("echo 1 >/sys/devices/system/cpu/cpu1/online")
        assert _nr_cpus(guest) == 3
    # It does work again: the mask is of vCPU 1 alone.
    assert guest.do("taskset 2 echo on-one").split()[-1] == "on-one"


def test_taken_down_and_up_through_xenstore(host: Host) -> None:
    guest = host.boot("-smp", "2")
    host.write("cpu/1/availability", "offline")
    # Offline comes before the kernel gives the processor up: only then it
    # hears what comes next.
    guest.do(f'while [ "$(cat {_PRESENT})" != 0 ]; do :; done')
    assert guest.do(f"cat {_ONLINE}").split()[-1] == "0"
    host.write("cpu/1/availability", "online")
    # The kernel has it back; to use it is user space's decision.
    guest.do(f'while [ "$(cat {_PRESENT})" != 0-1 ]; do :; done')
    guest.do("echo 1 >/sys/devices/system/cpu/cpu1/online")
    assert _nr_cpus(guest) == 2


def test_an_event_from_outside_reaches_another_vcpu(host: Host) -> None:
    guest = host.boot("-smp", "2")
    irq, before = _events(guest, "xenbus")
    guest.do(f"echo 2 >/proc/irq/{irq}/smp_affinity")
    # The first may still come to the old one.
    for _ in range(5):
        assert guest.do("xenstore-read name").split()[-1] == "web"
    _irq, after = _events(guest, "xenbus")
    assert after[1] >= before[1] + 4


def test_stopped_and_looked_at(host: Host) -> None:
    if not shutil.which("gdb"):
        pytest.skip("tools: gdb is not installed")
    path = host.directory / "qmp"
    guest = host.boot("-smp", "4", "-monitor", f"unix:{path}")
    names = {
        task.read_text().strip()
        for task in Path(f"/proc/{guest.process.pid}/task").glob("*/comm")
    }
    assert {"vcpu0", "vcpu1", "vcpu2", "vcpu3"} <= names
    with qmp(path) as ask:
        for _ in range(5):
            ask("stop")
            assert ask("query-status")["return"]["status"] == "paused"
            ask("cont")
        ask("stop")
        told = subprocess.run(
            [
                *("gdb", "-batch", "-nx", "-c", host.vmcore),
                *("-ex", "thread apply all -q p/x $rip"),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        rips = [int(word, 16) for word in re.findall(r"= (0x\w+)", told)]
        assert len(rips) == 4
        # The guest's own, never emu's (abi/layout.h) nor nothing.
        assert all(rip and rip >> 40 != 0xFFFF80 for rip in rips), told
        ask("cont")
    assert _nr_cpus(guest) == 4


def test_reboots_with_all_of_them(host: Host) -> None:
    guest = host.boot("-smp", "2")
    guest.type("reboot -f")
    guest.wait_for("XENNER-INIT")
    assert _nr_cpus(guest) == 2


def test_a_crash_shows_each(host: Host) -> None:
    guest = host.boot("-smp", "3")
    guest.type("echo c >/proc/sysrq-trigger")
    status, errors = guest.end()
    assert status == 1
    for number in range(3):
        assert re.search(rf"^vCPU {number}:", errors, re.M), errors
    # Linux tells the others to stop, and does not wait for them: on a loaded
    # machine one may still be running when the domain ends.
    nr_down = len(re.findall(r"^vCPU .: down$", errors, re.M))
    nr_running = len(re.findall(r"^RIP: ", errors, re.M))
    assert nr_running >= 1
    assert nr_down + nr_running == 3


def test_as_many_as_there_can_be(host: Host) -> None:
    guest = host.boot("-smp", "32")
    assert _nr_cpus(guest) == 32
