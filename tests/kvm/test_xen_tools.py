# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's own daemons and tools, unmodified, at work on a running guest."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.initramfs import make_initramfs
from tests.environments.rules import limit_s
from tests.kvm.xentools import (
    Device,
    StoreKind,
    ToolHost,
    nr_host_cpus,
    open_qemu,
    open_xenconsole,
    open_xenconsoled,
    pixels,
    program,
)
from tests.support.evtchnd import TOP, open_daemon
from tests.support.qmp import qmp
from tests.support.services import (
    DOMID,
    HANDLE,
    INIT,
    POWEROFF,
    xenstore_tools,
)

# The lab's root has none of the programs.
pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

_BLKFRONT = TOP / "build/debian/modules/xen-blkfront.ko"
_MEMORY_MIB = 256
_DISK = 51712  # xvda


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initramfs with xenstore's clients and what a disk needs."""
    if not _BLKFRONT.exists():
        pytest.skip("packages: xen-blkfront.ko is not unpacked")
    files = {
        "sbin/poweroff": POWEROFF,
        "lib/xen-blkfront.ko": _BLKFRONT.read_bytes(),
        **xenstore_tools(),
    }
    path = tmp_path_factory.mktemp("disk") / "initramfs"
    path.write_bytes(make_initramfs(INIT, files))
    return path


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)
        assert not list(Path(name).glob("vmcore*"))


@contextmanager
def open_tool_host(
    directory: Path, kernel: Path, disk: Path, kind: StoreKind
) -> Iterator[ToolHost]:
    """evtchnd and a store of that kind, which is there to the end."""
    with open_daemon(directory) as evtchnd:
        host = ToolHost(directory, evtchnd, kernel, disk, kind=kind)
        try:
            host.start_store()
            yield host
            host.end_guests()
            assert host.store is None or host.stop_store() == 0
        finally:
            host.close()


@pytest.fixture
def host(
    usable_kvm: None, debian_kernel: Path, disk: Path, runtime: Path
) -> Iterator[ToolHost]:
    """A host with our own store."""
    program("xl")
    with open_tool_host(runtime, debian_kernel, disk, StoreKind.OURS) as host:
        yield host


def until(what: Callable[[], bool]) -> None:
    """Ask again until it is so; each time takes its while."""
    deadline = time.monotonic() + limit_s(60)
    while not what():
        assert time.monotonic() < deadline


@pytest.mark.parametrize("kind", [StoreKind.C, StoreKind.OCAML])
def test_a_guest_on_xens_own_store(
    usable_kvm: None,
    debian_kernel: Path,
    disk: Path,
    runtime: Path,
    kind: StoreKind,
) -> None:
    program(kind)
    with open_tool_host(runtime, debian_kernel, disk, kind) as host:
        guest = host.boot()
        # xenbus is up, and the guest has told what it can.
        assert host.read("control/feature-poweroff") == "1"
        assert guest.do("xenstore-read name").splitlines()[-1] == "web"
        guest.do("xenstore-write data/from-inside yes")
        assert host.read("data/from-inside") == "yes"
        guest.do("! xenstore-write name other")
        host.write("control/shutdown", "poweroff")
        assert guest.end()[0] == 0
        until(
            lambda: (
                str(DOMID)
                not in host.run("xenstore-ls", "/local/domain").split()
            )
        )


def _list(host: ToolHost) -> str:
    """`xl list`, with single spaces."""
    return " ".join(host.tool("xl", "list").split())


def _row(host: ToolHost) -> list[str]:
    """The guest's of `xl list -v`: name, id, MiB, vCPUs, state, seconds..."""
    said = host.tool("xl", "list", "-v")
    rows = [line.split() for line in said.splitlines()]
    rows = [row for row in rows if row[:2] == ["web", str(DOMID)]]
    assert len(rows) == 1, said
    return rows[0]


def test_xl_list_tells_what_is(host: ToolHost) -> None:
    guest = host.boot()
    _name, _domid, memory, nr_vcpus, state, seconds, uuid, *_rest = _row(host)
    assert (memory, nr_vcpus, uuid) == (str(_MEMORY_MIB), "1", HANDLE)
    assert re.fullmatch(r"r-----|-b----", state)
    assert float(seconds) > 0
    guest.type("until xenstore-exists data/end; do :; done")
    until(lambda: _row(host)[4] == "r-----")
    until(lambda: float(_row(host)[5]) > float(seconds))
    host.write("data/end", "")
    until(lambda: _row(host)[4] == "-b----")
    assert host.tool("xl", "domid", "web").strip() == str(DOMID)
    assert host.tool("xl", "domname", str(DOMID)).strip() == "web"


def test_xl_list_tells_of_a_pause(host: ToolHost, runtime: Path) -> None:
    monitor = runtime / "monitor"
    guest = host.boot("-monitor", f"unix:{monitor}")
    with qmp(monitor) as ask:
        ask("stop")
        # One that waited for an event when it was paused still does.
        assert _row(host)[4] in ("--p---", "-bp---")
        said = host.tool("xl", "vcpu-list", str(DOMID)).splitlines()[1]
        assert said.split()[4] in ("---", "-b-")
        ask("cont")
        until(lambda: _row(host)[4] in ("r-----", "-b----"))
    guest.do("true")


def test_xl_list_tells_of_one_that_is_to_begin(
    host: ToolHost, runtime: Path
) -> None:
    monitor = runtime / "monitor"
    guest = host.boot("-S", "-monitor", f"unix:{monitor}", is_up=False)
    # Its place among the others comes after its monitor.
    until(lambda: f"web {DOMID} " in _list(host))
    assert _row(host)[4] == "--p---"
    with qmp(monitor) as ask:
        ask("cont")
        guest.wait_for("XENNER-INIT")
    assert _row(host)[4] in ("r-----", "-b----")


def test_xl_list_follows_the_balloon(host: ToolHost) -> None:
    guest = host.boot()
    host.write("memory/target", str((_MEMORY_MIB - 64) << 10))
    until(lambda: _row(host)[2] == str(_MEMORY_MIB - 64))
    host.write("memory/target", str(_MEMORY_MIB << 10))
    until(lambda: _row(host)[2] == str(_MEMORY_MIB))
    guest.do("true")


def test_xl_vcpu_list(host: ToolHost) -> None:
    host.boot()
    rows = host.tool("xl", "vcpu-list", str(DOMID)).splitlines()
    name, domid, vcpu, cpu, state, seconds, *affinity = rows[1].split()
    assert (name, domid, vcpu) == ("web", str(DOMID), "0")
    assert int(cpu) < nr_host_cpus()
    assert state in ("r--", "-b-")
    assert float(seconds) > 0
    assert affinity == ["all", "/", "all"]


def test_xl_info_is_the_hosts(host: ToolHost) -> None:
    lines = host.tool("xl", "info").splitlines()
    info = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    pages = os.sysconf("SC_PHYS_PAGES")
    assert info["host"] == socket.gethostname()
    assert info["nr_cpus"] == str(nr_host_cpus())
    assert info["total_memory"] == str(pages * 4096 >> 20)
    assert 0 < int(info["free_memory"]) < int(info["total_memory"])
    assert float(info["cpu_mhz"]) > 0
    assert info["virt_caps"] == "pv"
    assert info["xen_version"] == "4.17.0-xenner"
    assert info["xen_caps"] == "xen-3.0-x86_64"
    assert info["xen_scheduler"] == "credit"


def test_xen_init_dom0_gives_domain_0_its_name(host: ToolHost) -> None:
    # Our store makes them itself: without them it is the tool that did it.
    for node in ("domid", "name"):
        host.run("xenstore-rm", f"/local/domain/0/{node}")
    host.tool("xen-init-dom0")
    assert host.run("xenstore-read", "/local/domain/0/domid") == "0\n"
    rows = [line.split() for line in host.tool("xl", "list").splitlines()]
    assert ["Domain-0", "0"] in [row[:2] for row in rows]


def test_xentop(host: ToolHost) -> None:
    host.boot()
    said = host.tool("xentop", "-b", "-v", "-i", "2", "-d", "0.1")
    rows = [line.split() for line in said.splitlines()]
    guests = [row for row in rows if row[0] == "web"]
    assert len(guests) == 2
    for _name, state, _seconds, _percent, kib, *_rest in guests:
        assert re.fullmatch(r"--b---|-----r", state)
        assert int(kib) == _MEMORY_MIB << 10
    lines = said.splitlines()
    after = [lines[i + 1] for i, row in enumerate(rows) if row[0] == "web"]
    assert all("VCPUs(sec):" in line for line in after)


def test_xenconsoled_has_the_console(host: ToolHost, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with open_xenconsoled(host, logs):
        host.boot("-serial", "xenconsoled", is_up=False)
        host.wait_node("console/tty", "/dev/pts/")
        with open_xenconsole(host) as console:
            console.wait_for("XENNER-INIT")
            assert "\n42\n" in console.do("echo; echo $((6 * 7))")
        assert b"XENNER-INIT" in (logs / "guest-web.log").read_bytes()
        host.end_guests()


def test_qemu_shows_the_guests_screen(host: ToolHost, tmp_path: Path) -> None:
    guest = host.boot()
    Device("vfb", "vfb", 0, {}, {}).add(host.socket)
    with open_qemu(host) as qemu:
        host.wait_value("device/vfb/0/state", "4")
        dump = tmp_path / "screen"
        for byte, octal in ((255, "377"), (85, "125")):
            guest.do(
                "dd if=/dev/zero bs=4096 count=480 2>/dev/null | "
                rf"tr '\0' '\{octal}' >/dev/fb0"
            )

            def shown(byte: int = byte) -> bool:
                qemu.do("screendump", filename=str(dump))
                found = pixels(dump)
                # The console has a cursor on it.
                return found.count(byte) > len(found) * 9 // 10

            until(shown)


def test_qemu_gives_up_what_is_not_the_guests(host: ToolHost) -> None:
    host.boot()
    with open_qemu(host, "-xen-domid-restrict") as qemu:
        # It ends before it answers, were one handle not restricted.
        qemu.do("query-status")


def test_qemu_is_the_guests_keyboard(host: ToolHost) -> None:
    guest = host.boot()
    Device("vfb", "vfb", 0, {}, {}).add(host.socket)
    Device("vkbd", "vkbd", 0, {}, {}).add(host.socket)
    with open_qemu(host) as qemu:
        host.wait_value("device/vkbd/0/state", "4")
        guest.do("exec 3</dev/tty1")
        for name in ("x", "e", "n", "ret"):
            key = {"type": "qcode", "data": name}
            qemu.do("send-key", keys=[key])
        assert "GOT-xen" in guest.do("read line <&3; echo GOT-$line")


def test_qemu_is_the_guests_disk(host: ToolHost, tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    image = tmp_path / "image"
    image.write_bytes(content)
    guest = host.boot()
    guest.do("insmod /lib/xen-blkfront.ko")
    back = {
        "params": f"aio:{image}",
        "type": "qdisk",
        "dev": "xvda",
        "mode": "w",
        "device-type": "disk",
        "removable": "0",
        "bootable": "1",
    }
    front = {"virtual-device": str(_DISK), "device-type": "disk"}
    Device("vbd", "qdisk", _DISK, front, back).add(host.socket)
    with open_qemu(host):
        host.wait_value(f"device/vbd/{_DISK}/state", "4")
        guest.do("until [ -b /dev/xvda ]; do :; done")
        # Its first 512 KiB over its last.
        guest.do("dd if=/dev/xvda of=/tmp/half bs=64k count=8 2>/dev/null")
        guest.do(
            "dd if=/tmp/half of=/dev/xvda bs=64k seek=8 conv=fsync 2>/dev/null"
        )
        half = content[: 1 << 19]
        assert image.read_bytes() == half + half
