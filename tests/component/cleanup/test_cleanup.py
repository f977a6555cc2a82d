# SPDX-License-Identifier: GPL-2.0-or-later
"""xenner-cleanup after kill -9 of real processes, beside living ones."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.component.cleanup.host import Host
from xenner.errors import HostError
from xenner.paths import Paths
from xenner.types import Domid
from xenner.vmcorelocks import DomainAliveError, domid_held, preserve
from xennerd.cleanup.__main__ import main
from xennerd.cleanup.classify import Kind, Leftover
from xennerd.cleanup.liveness import find_live_domains
from xennerd.cleanup.remove import remove
from xennerd.cleanup.scan import Host as ScannedHost
from xennerd.cleanup.scan import scan_host
from xennerd.vm.memory.layout import machine_layout
from xennerd.vm.memory.vmcore import open_vmcore

HANDLES = tuple(f"00000000-0000-4000-8000-00000000000{n}" for n in range(3))


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("root: taps and cgroups are root's to make")


# --- vmcores ------------------------------------------------------------------


def test_a_killed_domains_vmcore_goes_a_living_ones_stays(host: Host) -> None:
    dead, alive = host.start_domain(430), host.start_domain(431)
    host.kill(dead)
    path, other = (str(host.directory / f"vmcore.{n}") for n in (430, 431))
    # Without --force it is only said.
    assert host.states(430, 431) == {path: "stale"}
    assert os.path.exists(path)
    assert host.states("--force", 430, 431) == {path: "removed"}
    assert not os.path.exists(path)
    assert os.path.exists(other)
    assert alive.poll() is None
    assert host.states("--force", 430, 431) == {}


def test_it_looks_where_all_programs_look(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the store of one host and the memory of another all are dead."""
    dead = host.start_domain(430)
    host.kill(dead)
    monkeypatch.setenv("XENNER_RUNTIME_DIR", str(host.directory))
    with pytest.raises(SystemExit):
        main(["430"])
    assert str(host.directory / "vmcore.430") in capsys.readouterr().out


def test_what_was_kept_on_purpose(host: Host) -> None:
    with open_vmcore(
        Domid(430),
        layout=machine_layout(256),
        nr_vcpus=1,
        runtime_dir=host.directory,
    ) as vmcore:
        preserve(vmcore.path)
    path = str(vmcore.path)
    assert host.states("--force", 430) == {path: "left"}
    assert host.states("--force", "--kept", 430) == {path: "removed"}


def test_the_table_for_people(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.kill(host.start_domain(430))
    arguments = [
        *("--runtime-dir", str(host.directory), "430"),
        *("--xenstore", str(host.store.socket_path)),
    ]
    with pytest.raises(SystemExit):
        main(arguments)
    head, row, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["KIND", "DOMAIN", "SIZE", "STATE", "NAME", "WHY"]
    assert row.split()[:2] == ["vmcore", "430"]
    assert row.endswith("domain 430 is not running")
    assert last.startswith("1 to be removed, 9.0 MiB")
    with pytest.raises(SystemExit):
        main([*arguments, "--force"])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().out == "nothing is stale\n"


# --- links and sockets --------------------------------------------------------

_BOUND = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
if sys.argv[2] == "listens":
    listener.listen(1)
print("ready", flush=True)
time.sleep(600)
"""


def test_sockets_of_the_dead_go_and_no_others(host: Host) -> None:
    dead, served, early = (host.directory / n for n in ("dead", "live", "new"))
    host.kill(host.start(_BOUND, dead, "listens"))
    host.start(_BOUND, served, "listens")
    # A daemon that has not come to listen() yet.
    host.start(_BOUND, early, "binds")
    assert host.states("--force", "--only", "socket") == {str(dead): "removed"}
    assert not dead.exists()
    assert served.is_socket()
    assert early.is_socket()
    assert host.evtchnd.path.is_socket()


def _scanned(host: Host) -> ScannedHost:
    return ScannedHost(Paths(host.directory, host.store.socket_path))


def test_a_socket_that_comes_to_life_is_put_back(host: Host) -> None:
    path = host.directory / "live"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        scanned = _scanned(host)
        with pytest.raises(OSError, match="listens"):
            remove(Leftover(Kind.SOCKET, None, str(path)), scanned)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert not [p for p in host.directory.iterdir() if ".live." in p.name]


def test_links_beside_a_vmcore_and_the_socket_they_lead_to(
    host: Host, tmp_path: Path
) -> None:
    monitor = tmp_path / "web.qmp"
    host.kill(host.start(_BOUND, monitor, "listens"))
    for name, target in (
        ("monitor.430", monitor),
        ("console.430", Path("/dev/pts/no")),
        ("console.431", Path("/dev/pts/no")),
    ):
        (host.directory / name).symlink_to(target)
    host.start_domain(431)
    assert host.states("--force", 430, 431) == {
        str(host.directory / "monitor.430"): "removed",
        str(host.directory / "console.430"): "removed",
        str(monitor): "removed",
    }
    assert (host.directory / "console.431").is_symlink()


# --- xenstore -----------------------------------------------------------------


_SOMEBODY = "import time; print('ready', flush=True); time.sleep(600)"


def test_nodes_of_the_dead_go_and_no_others(host: Host) -> None:
    for domid, handle in zip((430, 431, 432), HANDLES, strict=True):
        host.write_nodes(domid, handle)
    dead, _alive = host.start_domain(430), host.start_domain(431)
    # Its vmcore is elsewhere: only evtchnd knows that it lives.
    host.register(host.start(_SOMEBODY), 432)
    host.kill(dead)
    found = host.states("--force", 430, 431, 432)
    core = str(host.directory / "vmcore.430")
    assert found.pop(core) == "removed"
    assert set(found.values()) == {"removed"}
    assert found.keys() == {
        *("/local/domain/430", f"/vm/{HANDLES[0]}", "/libxl/430"),
        "/local/domain/0/backend/vbd/430",
    }
    assert host.nodes() == {
        *(f"/local/domain/{n}" for n in (431, 432)),
        *(f"/libxl/{n}" for n in (431, 432)),
        *(f"/local/domain/0/backend/vbd/{n}" for n in (431, 432)),
        *(f"/vm/{handle}" for handle in HANDLES[1:]),
    }


def test_a_guests_next_life_keeps_what_both_have(host: Host) -> None:
    host.write_nodes(430, HANDLES[0])
    host.write_nodes(431, HANDLES[0])
    host.start_domain(431)
    host.states("--force", 430, 431)
    assert f"/vm/{HANDLES[0]}" in host.nodes()
    assert "/local/domain/430" not in host.nodes()


def test_without_a_store_the_rest_is_done(host: Host) -> None:
    host.kill(host.start_domain(430))
    host.store.stop()
    status, said = host.cleanup("--force", 430)
    assert status == 0
    assert [item["state"] for item in said["items"]] == ["removed"]
    (note,) = said["notes"]
    assert note.startswith("no look at xenstore: ")
    host.store.start()


def test_a_host_that_runs_xen_is_left_alone(host: Host, tmp_path: Path) -> None:
    host.write_nodes(430, HANDLES[0])
    kind = tmp_path / "type"
    kind.write_text("xen\n")
    leftovers, notes = scan_host(replace(_scanned(host), hypervisor=kind))
    assert not [t for t in leftovers if t.kind in (Kind.XENSTORE, Kind.TAP)]
    assert "runs Xen" in notes[0]


def test_without_evtchnd_locks_are_what_is_known(host: Host) -> None:
    host.start_domain(431)
    living = find_live_domains(host.directory, host.directory / "no.socket")
    assert living.domids == {Domid(431)}
    assert not living.registered


# --- races --------------------------------------------------------------------

# Starts and ends the same domain again and again; a start that is refused is
# tried again. Ends with status 1 if its memory was taken away from it.
_RESTARTING = """
import os, re, sys, time
from pathlib import Path
from xenner.errors import HostError
from xenner.types import Domid
from xennerd.vm.memory.layout import machine_layout
from xenner.vmcorelocks import preserve
from xennerd.vm.memory.vmcore import open_vmcore
layout, starts, end_s = machine_layout(1), 0, time.monotonic() + 60
print("ready", flush=True)
while starts < 60 and time.monotonic() < end_s:
    try:
        with open_vmcore(Domid(430), layout=layout, nr_vcpus=1,
                         runtime_dir=Path(sys.argv[1])) as core:
            for _ in range(3):
                time.sleep(0.001)
                if not os.path.samestat(os.fstat(core.fd), core.path.lstat()):
                    sys.exit(1)
            starts += 1
            preserve(core.path)
        time.sleep(0.01)
    except HostError as error:
        if not re.search("running already|and stays", str(error)):
            raise
sys.exit(0 if starts == 60 else 2)
"""


def test_a_domain_that_starts_meanwhile_keeps_its_memory(host: Host) -> None:
    process = host.start(_RESTARTING, host.directory)
    removed = 0
    while process.poll() is None:
        _, said = host.cleanup("--force", "--kept", "--only", "vmcore", 430)
        removed += sum(i["state"] == "removed" for i in said["items"])
    assert process.returncode == 0
    assert removed


def test_a_number_that_is_held_cannot_start(host: Host) -> None:
    with domid_held(Domid(430), host.directory):
        refused = subprocess.run(
            [sys.executable, "-c", _RESTARTING_ONCE, host.directory],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "domain 430 is running already" in refused.stderr
    assert not (host.directory / "vmcore.430").exists()
    host.start_domain(430)
    with (
        pytest.raises(DomainAliveError),
        domid_held(Domid(430), host.directory),
    ):
        pass


_RESTARTING_ONCE = """
import sys
from pathlib import Path
from xenner.types import Domid
from xennerd.vm.memory.layout import machine_layout
from xennerd.vm.memory.vmcore import open_vmcore
with open_vmcore(Domid(430), layout=machine_layout(1), nr_vcpus=1,
                 runtime_dir=Path(sys.argv[1])):
    pass
"""
_CLAIMING = """
import sys, time
from pathlib import Path
from xenner.types import Domid
from xenner.vmcorelocks import domid_held
with domid_held(Domid(430), Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_cleanup_that_was_killed_is_cleaned_up(host: Host) -> None:
    process = host.start(_CLAIMING, host.directory)
    path = host.directory / "vmcore.430"
    # Held, it is a living domain for all others.
    assert host.states("--force", 430) == {}
    host.kill(process)
    assert host.states("--force", 430) == {str(path): "removed"}
    assert not path.exists()


# --- taps and cgroups ---------------------------------------------------------


_SET_IFF, _SET_PERSIST = 0x400454CA, 0x400454CB


def open_tap(name: str) -> int:
    """A persistent one of several queues, as netbackd's are."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    request = struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000 | 0x0100)
    fcntl.ioctl(fd, _SET_IFF, request)
    fcntl.ioctl(fd, _SET_PERSIST, 1)
    return fd


@pytest.fixture
def tap_names() -> Iterator[tuple[str, str]]:
    """Names for taps, which are gone afterwards whatever happens."""
    needs_root()
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("tun: no /dev/net/tun")
    names = ("vif430.0", "vif431.0")
    yield names
    for name in names:
        if has_interface(name):
            fd = open_tap(name)
            fcntl.ioctl(fd, _SET_PERSIST, 0)
            os.close(fd)


def has_interface(name: str) -> bool:
    return name in {name for _, name in socket.if_nameindex()}


def test_taps(host: Host, tap_names: tuple[str, str]) -> None:
    dead, alive = tap_names
    host.start_domain(431)
    held = open_tap(dead)
    os.close(open_tap(alive))
    # Somebody has it open: a backend, which will let go of it by itself.
    assert host.states("--force", 430, 431) == {dead: "left"}
    os.close(held)
    assert host.states(430, 431) == {dead: "stale"}
    assert host.states("--force", 430, 431) == {dead: "removed"}
    assert not has_interface(dead)
    assert has_interface(alive)


def test_a_tap_that_is_opened_meanwhile_is_left(
    host: Host, tap_names: tuple[str, str]
) -> None:
    name, _ = tap_names
    fd = open_tap(name)
    with pytest.raises(HostError, match="in use by"):
        remove(Leftover(Kind.TAP, Domid(430), name), _scanned(host))
    os.close(fd)
    assert has_interface(name)


@pytest.fixture
def cgroup_root() -> Path:
    needs_root()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _source, mount_point, kind, options, *_ = line.split(" ")
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(mount_point)
    pytest.skip("cgroup2: not mounted for writing")


def test_cgroups(host: Host, cgroup_root: Path) -> None:
    slices = [cgroup_root / f"xenner-{n}.slice" for n in (430, 431, 432)]
    inner = slices[0] / "xenner@430.service"
    processes = []
    try:
        for path in (*slices, inner):
            path.mkdir()
        host.start_domain(431)
        process = host.start_domain(433)
        processes.append(process)
        (slices[2] / "cgroup.procs").write_text(str(process.pid))
        assert host.states("--force", 430, 431, 432) == {
            str(inner): "removed",
            str(slices[0]): "removed",
            str(slices[2]): "left",
        }
        assert [path.exists() for path in slices] == [False, True, True]
    finally:
        for process in processes:
            host.kill(process)
        for path in (inner, *slices):
            if path.exists():
                path.rmdir()


# --- the command line ---------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["0"], ["x"], ["99999"], ["--only", "disk"], ["--yes"]]
)
def test_command_lines_that_are_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "xenner-cleanup: error:" in capsys.readouterr().err
