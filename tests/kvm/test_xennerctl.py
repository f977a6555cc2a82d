# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerctl and a running guest: what programs read of it, what it does."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.initramfs import make_initramfs
from tests.environments.rules import limit_s
from tests.kvm.ctl import Ctl
from tests.kvm.supervisor import open_xennerd
from tests.support.evtchnd import TOP
from tests.support.services import INIT, POWEROFF, open_host
from xenner.listening import listener_of
from xenner.types import Domid
from xenner.xenstore import Xenstore
from xennerd.domain.records import read_record
from xennerd.qmp.client import QmpClient

pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

KERNEL = TOP / "build/debian/vmlinuz"


@pytest.fixture
def ctl(tmp_path: Path) -> Iterator[Ctl]:
    if not KERNEL.exists():
        pytest.skip("kernel: tools/setup was not run")
    disk = tmp_path / "initramfs"
    disk.write_bytes(make_initramfs(INIT, {"sbin/poweroff": POWEROFF}))
    (tmp_path / "web.cfg").write_text(
        f"name='web'\nkernel='{KERNEL}'\nramdisk='{disk}'\n"
        "memory=192\nvcpus=2\nextra='console=hvc0 panic=-1 quiet'\n"
    )
    with open_host(tmp_path, KERNEL, disk) as host, open_xennerd(tmp_path):
        ctl = Ctl(host)
        yield ctl
        for row in rows(ctl("list")):
            if row[0] != "Domain-0":
                ctl("destroy", row[0])


def rows(text: str) -> list[list[str]]:
    """As Ganeti's parser takes `xl list`: the heading unread, six fields
    whose second to fourth are integers and whose last is a number."""
    found = [line.split() for line in text.splitlines()[1:]]
    for fields in found:
        assert len(fields) == 6
        assert [int(field) for field in fields[1:4]]
        assert float(fields[5]) >= 0
        assert len(fields[4]) == 6
    return found


def test_a_life_by_its_commands(ctl: Ctl) -> None:
    file = str(ctl.host.directory / "web.cfg")
    assert [row[0] for row in rows(ctl("list"))] == ["Domain-0"]
    ctl("create", file)
    again = ctl.run("create", file)
    assert again.returncode == 1
    assert "already exists" in again.stderr

    host, guest = rows(ctl("list"))
    assert host[:2] == ["Domain-0", "0"]
    assert (guest[0], guest[2], guest[3]) == ("web", "192", "2")
    domid = guest[1]
    assert ctl("domid", "web") == f"{domid}\n"
    assert ctl("domname", domid) == "web\n"
    (one,) = rows(ctl("list", "web"))
    assert one[0] == "web"
    (long,) = json.loads(ctl("list", "-l", "web"))
    assert long["config"]["c_info"]["name"] == "web"
    assert len(ctl("vcpu-list", "web").splitlines()) == 3
    uptimes = ctl("uptime", "web", "0").splitlines()[1:]
    assert [line.split()[:2] for line in uptimes] == [guest[:2], host[:2]]

    ctl("pause", "web")
    assert rows(ctl("list", "web"))[0][4] == "--p---"
    ctl("unpause", "web")
    assert rows(ctl("list", "web"))[0][4] in ("r-----", "-b----")
    (again, top) = json.loads(ctl("top", "--json", "-i", "1"))
    assert (again["name"], top["name"]) == ("Domain-0", "web")
    assert (top["nr_vcpus"], top["max_memory_kib"]) == (2, 192 << 10)
    assert len(ctl("top", "-b", "-i", "2", "-d", "0.1").splitlines()) == 6

    ctl("mem-set", "web", "160")
    ctl("mem-max", "web", "170")
    refused = ctl.run("mem-set", "web", "180")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "between 1 and 170 MiB" in refused.stderr
    refused = ctl.run("mem-max", "web", "150")
    assert "between its target, 160 MiB" in refused.stderr
    assert "web" in ctl("complete", "destroy", "").splitlines()

    ctl("vcpu-set", "web", "1")
    nodes = [f"/local/domain/{domid}/cpu/{i}/availability" for i in (0, 1)]
    assert ctl.host.run("xenstore-read", *nodes) == "online\noffline\n"
    refused = ctl.run("vcpu-set", "web", "3")
    assert refused.stderr == "xennerctl: web: between 1 and 2 vCPUs\n"
    ctl("rename", "web", "shop")
    assert ctl("domname", domid) == "shop\n"
    core = ctl.host.directory / "core"
    ctl("dump-core", "shop", str(core))
    assert core.read_bytes()[:4] == b"\x7fELF"
    ctl("destroy", "shop")
    assert [row[0] for row in rows(ctl("list"))] == ["Domain-0"]


def test_shutdown_waits(ctl: Ctl) -> None:
    ctl("create", "-q", str(ctl.host.directory / "web.cfg"), "memory=128")
    assert rows(ctl("list", "web"))[0][2] == "128"
    ctl("shutdown", "-w", "web")
    assert len(rows(ctl("list"))) == 1


def guest_pid(ctl: Ctl, name: str) -> int:
    (domain,) = json.loads(ctl("list", "--json", name))
    return int(domain["pid"])


def test_a_guest_whose_process_hangs(ctl: Ctl) -> None:
    """It is listed as that, at once, and can be destroyed for good."""
    file = str(ctl.host.directory / "web.cfg")
    ctl("create", file, "on_crash='restart'")
    pid = guest_pid(ctl, "web")
    os.kill(pid, signal.SIGSTOP)
    # More than wait in the queue of a socket that nobody accepts from.
    for _ in range(20):
        done = ctl.run("list")
        name, _domid, memory, nr_vcpus, state, _time = rows(done.stdout)[1]
        found = (name, memory, nr_vcpus, state)
        assert found == ("web", "192", "2", "------")
        assert done.stderr == (
            f"warning: web: its process, {pid}, does not answer; xennerctl "
            "destroy kills it\n"
        )
    (domain,) = json.loads(ctl.run("list", "--json", "web").stdout)
    assert (domain["is_silent"], len(domain["vcpus"])) == (True, 2)
    core = ctl.host.directory / "core"
    assert ctl.run("dump-core", "web", str(core)).returncode == 0
    assert core.read_bytes()[:4] == b"\x7fELF"
    ctl("destroy", "web")
    # Its process was killed, but nobody starts it again.
    log = ctl.host.directory / "xennerd.log"
    deadline = time.monotonic() + limit_s(30)
    while "web: did not answer: its process was killed" not in log.read_text():
        assert time.monotonic() < deadline
    while list(ctl.host.directory.glob("*.[0-9]*")):
        assert time.monotonic() < deadline
    assert len(rows(ctl("list"))) == 1


def test_a_store_that_hangs(ctl: Ctl) -> None:
    """Guests are listed by the names that they have, and keep them."""
    file = str(ctl.host.directory / "web.cfg")
    for name in ("one", "two"):
        ctl("create", "-p", file, f"name='{name}'", "memory=128")
    store = listener_of(ctl.host.socket)
    assert store is not None
    os.kill(store, signal.SIGSTOP)
    try:
        found = [row[0] for row in rows(ctl("list"))]
        assert found == ["Domain-0", "one", "two"]
        refused = ctl.run("rename", "one", "three")
        assert refused.stderr == "xennerctl: xenstore: timed out\n"
        assert "one" in ctl("list")
    finally:
        os.kill(store, signal.SIGCONT)


def test_a_restart_is_waited_for_as_an_end_is(ctl: Ctl) -> None:
    """With -w, as with xl: the guest has shut down then."""
    file = str(ctl.host.directory / "web.cfg")
    ctl("create", file, "on_poweroff='rename-restart'")
    pid = guest_pid(ctl, "web")
    ctl("reboot", "-w", "web")
    assert guest_pid(ctl, "web") == pid
    ctl("shutdown", "-w", "web")
    assert any("web-20" in row[0] for row in rows(ctl("list")))


def test_a_uuid_is_one_domain_s(ctl: Ctl) -> None:
    file = str(ctl.host.directory / "web.cfg")
    handle = "12345678-9abc-4def-8123-456789abcdef"
    done = ctl.run("create", "-q", file, f"uuid='{handle}'", "cpu_weight=512")
    assert done.returncode == 0
    # By hand there is nothing that could limit it.
    assert done.stderr.startswith("warning: cpu_weight limits nothing here: ")
    done = ctl.run("create", "-q", file, "name='b'", f"uuid='{handle}'")
    assert done.returncode == 1
    domid = ctl("domid", "web").strip()
    assert f"uuid {handle} is that of web, domain {domid} (" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_a_guest_writes_is_no_text(ctl: Ctl) -> None:
    """Its nodes are its own, and what is shown goes to a terminal."""
    image = ctl.host.directory / "image"
    image.write_bytes(bytes(1 << 20))
    file = str(ctl.host.directory / "web.cfg")
    ctl("create", "-p", file, f"disk=['{image},raw,xvda,w']")
    domid = ctl("domid", "web").strip()
    top = f"/local/domain/{domid}/device/vbd"
    backend = f"/local/domain/0/backend/vbd/{domid}/51712"
    row = ["51712", "0", domid, "-1", "-1", "-1", backend]
    with Xenstore(ctl.host.socket) as store:
        store.write(f"{top}/51712/state", "\x1b[2J7")
        store.write(f"{top}/51712/ring-ref", "8\n9")
        store.write(f"{top}/51712/backend", "/local/domain/0/name")
        store.write(f"{top}/mine/state", "4")
        assert ctl("block-list", "web").splitlines()[1].split() == row
        assert len(ctl("block-list", "web").splitlines()) == 2
        store.remove(top)
        assert ctl("block-list", "web").splitlines()[1].split() == row
    assert json.loads(ctl("block-list", "--json", "web"))[0]["domid"] == domid


def test_a_long_file_is_a_file(ctl: Ctl) -> None:
    file = ctl.host.directory / "web.cfg"
    file.write_text(file.read_text() + f"# {'x' * 100}\n" * 2000)
    ctl("create", str(file))
    ctl("destroy", "web")


def wait_time(ctl: Ctl, is_right: Callable[[float], bool]) -> None:
    """Until `list` shows such a processor time."""
    deadline = time.monotonic() + limit_s(30)
    while not is_right(float(rows(ctl("list", "web"))[0][5])):
        assert time.monotonic() < deadline


def test_a_reboot_is_seen_by_the_time_used(ctl: Ctl) -> None:
    # So Ganeti sees it: the number stays, the time begins anew.
    disk = ctl.host.directory / "busy"
    init = b"#!/bin/busybox sh\nwhile :; do :; done\n"
    disk.write_bytes(make_initramfs(init, {}))
    file = str(ctl.host.directory / "web.cfg")
    ctl("create", "-p", file, f"ramdisk='{disk}'")
    assert rows(ctl("list", "web"))[0][4] == "--p---"
    ctl("unpause", "web")
    wait_time(ctl, lambda used_s: used_s >= 3.0)
    ctl("reboot", "web")
    wait_time(ctl, lambda used_s: used_s < 3.0)


def test_what_is_updated_counts_from_the_next_start_on(ctl: Ctl) -> None:
    file = str(ctl.host.directory / "web.cfg")
    ctl("create", file, "vcpus=1")
    other = ctl.host.directory / "other.cfg"
    other.write_text("name='other'\nkernel='/k'\n")
    refused = ctl.run("config-update", "web", str(other))
    assert "is of 'other', not of 'web'" in refused.stderr
    ctl("config-update", "web", file, "vcpus=2", "memory=160")
    before = rows(ctl("list", "web"))[0]
    assert before[2:4] == ["192", "1"]
    with QmpClient(ctl.host.directory / f"monitor.{before[1]}") as monitor:
        handle = monitor.execute("query-uuid")
    ctl("reboot", "web")
    deadline = time.monotonic() + limit_s(60)
    wanted = ["web", before[1], "160", "2"]
    # For a moment between two processes there is none.
    while wanted not in [row[:4] for row in rows(ctl("list"))]:
        assert time.monotonic() < deadline
    with QmpClient(ctl.host.directory / f"monitor.{before[1]}") as monitor:
        assert monitor.execute("query-uuid") == handle


def test_more_memory_than_at_the_start(ctl: Ctl) -> None:
    """maxmem: the guest's balloon driver takes it, and gives it back."""
    file = str(ctl.host.directory / "web.cfg")
    ctl("create", file, "memory=128", "maxmem=256")
    assert rows(ctl("list", "web"))[0][2] == "128"
    (long,) = json.loads(ctl("list", "-l", "web"))
    assert long["config"]["b_info"]["max_memkb"] == 256 << 10
    refused = ctl.run("mem-set", "web", "257")
    assert "between 1 and 256 MiB" in refused.stderr
    deadline = time.monotonic() + limit_s(60)
    for wanted in ("240", "120"):
        ctl("mem-set", "web", wanted)
        while rows(ctl("list", "web"))[0][2] != wanted:
            assert time.monotonic() < deadline
    ctl("mem-max", "web", "200")
    refused = ctl.run("mem-set", "web", "201")
    assert "between 1 and 200 MiB" in refused.stderr


def nr_starts(ctl: Ctl, domid: str) -> int:
    """None while one that was killed is being handled."""
    record = read_record(ctl.host.directory, Domid(int(domid)))
    return len(record.starts_s) if record is not None else 0


def test_a_new_name_stays(ctl: Ctl) -> None:
    """Over a reboot, and when the guest's process is killed."""
    file = str(ctl.host.directory / "web.cfg")
    ctl("create", file, "on_crash='restart'")
    domid = ctl("domid", "web").strip()
    refused = ctl.run("rename", "web", "../web")
    assert (refused.returncode, refused.stdout) == (2, "")
    ctl("rename", "web", "shop")
    for nr_before, end in enumerate((("reboot", "shop"), ()), start=1):
        pid = json.loads(ctl("list", "--json", "shop"))[0]["pid"]
        if end:
            ctl(*end)
        else:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + limit_s(60)
        while nr_starts(ctl, domid) <= nr_before:
            assert time.monotonic() < deadline
        # Between two processes there is none.
        while [row[:2] for row in rows(ctl("list"))][1:] != [["shop", domid]]:
            assert time.monotonic() < deadline


def vdevs(ctl: Ctl) -> list[str]:
    # For a moment between two processes there is no such domain.
    lines = ctl.run("block-list", "web").stdout.splitlines()[1:]
    return [line.split()[0] for line in lines]


def _reset(ctl: Ctl, domid: str) -> None:
    monitor = ctl.host.directory / f"monitor.{domid}"
    with QmpClient(monitor, limit_s=limit_s(60)) as client:
        client.execute("system_reset")


@pytest.mark.parametrize("is_reset", [False, True])
def test_what_is_plugged_in_stays_over_a_reboot(
    ctl: Ctl, is_reset: bool
) -> None:
    directory = ctl.host.directory
    for name in ("first", "second"):
        (directory / name).write_bytes(bytes(1 << 20))
    file = str(directory / "web.cfg")
    ctl("create", file, f"disk=['{directory}/first,raw,xvda,w']")
    ctl("block-attach", "web", f"{directory}/second,raw,xvdb,r")
    assert vdevs(ctl) == ["51712", "51728"]
    (long,) = json.loads(ctl("list", "-l", "web"))
    paths = [disk["pdev_path"] for disk in long["config"]["disks"]]
    assert paths == [f"{directory}/first", f"{directory}/second"]
    domid = ctl("domid", "web").strip()
    nr_before = nr_starts(ctl, domid)
    if is_reset:
        _reset(ctl, domid)
    else:
        ctl("reboot", "web")
    deadline = time.monotonic() + limit_s(60)
    # The start is counted before the guest has its nodes.
    while nr_starts(ctl, domid) == nr_before:
        assert time.monotonic() < deadline
    while vdevs(ctl) != ["51712", "51728"]:
        assert time.monotonic() < deadline
    # One that is created anew is as its file has it.
    ctl("destroy", "web")
    ctl("create", "-p", file)
    assert rows(ctl("list", "web"))
    assert vdevs(ctl) == []


def test_info_as_ganeti_reads_it(ctl: Ctl) -> None:
    pairs = [line.split(":", 1) for line in ctl("info").splitlines()]
    facts = {key.strip(): value.strip() for key, value in pairs}
    numbers = "total_memory free_memory nr_cpus nr_nodes xen_major xen_minor"
    for key in (*numbers.split(), "cores_per_socket", "threads_per_core"):
        assert int(facts[key]) >= 1


def test_what_is_not_there(ctl: Ctl) -> None:
    for words in (("destroy", "x"), ("list", "x"), ("vcpu-list", "0", "x")):
        done = ctl.run(*words)
        assert done.returncode == 1
        assert done.stderr == "x is an invalid domain identifier (rc=-6)\n"
    done = ctl.run("domid", "x")
    assert done.returncode == 1
    assert done.stderr.startswith("Can't get domid of domain name 'x', maybe")
    assert ctl.run("list", "0", "0").returncode == 2
    file = ctl.host.directory / "bad.cfg"
    file.write_text("name='bad'\nkernel='/none'\n")
    done = ctl.run("create", "-q", str(file))
    assert done.returncode == 1
    assert "/none: cannot read the kernel" in done.stderr
    # A device that cannot be had is found out before anybody relies on it.
    file = ctl.host.directory / "web.cfg"
    done = ctl.run("create", "-q", str(file), "disk=['/none,raw,xvda,w']")
    assert done.returncode == 1
    assert "xvda: /none: No such file or directory" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [row[0] for row in rows(ctl("list"))] == ["Domain-0"]
