# SPDX-License-Identifier: GPL-2.0-or-later
"""The vmcore: one owner, a valid core at any time, nothing left behind."""

import fcntl
import logging
import mmap
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from xenner import abi
from xenner.errors import HostError
from xenner.types import Domid
from xenner.vmcorelocks import find_free_domid, preserve
from xennerd.vm.memory import vmcore as vmcore_module
from xennerd.vm.memory.corefile import KernelView, Registers
from xennerd.vm.memory.layout import PAGE_BYTES, machine_layout
from xennerd.vm.memory.vmcore import DomidTakenError, open_vmcore

LAYOUT = machine_layout(256)
DOMID = Domid(7)


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def test_life(tmp_path: Path) -> None:
    directory = tmp_path / "xenner"
    path = directory / "vmcore.7"
    with open_vmcore(
        DOMID, layout=LAYOUT, nr_vcpus=2, runtime_dir=directory
    ) as core:
        assert core.path == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755
        assert path.stat().st_size == LAYOUT.size_bytes
        # Reserved, not sparse: a page that cannot be had is SIGBUS later.
        assert path.stat().st_blocks * 512 >= LAYOUT.size_bytes
        core.mem[0x800000:0x800005] = b"guest"
        assert path.read_bytes()[0x800000:0x800005] == b"guest"
    assert os.listdir(directory) == []


def test_a_directory_may_share_it_with_its_group(tmp_path: Path) -> None:
    layout = machine_layout(8 << 20)

    def mode() -> int:
        with open_vmcore(
            Domid(5), layout=layout, nr_vcpus=1, runtime_dir=tmp_path
        ) as vmcore:
            return stat.S_IMODE(vmcore.path.stat().st_mode)

    assert mode() == 0o600
    tmp_path.chmod(0o2775)
    assert mode() == 0o660


def test_machine_hole_takes_no_room(tmp_path: Path) -> None:
    layout = machine_layout(256)
    sparse = SimpleNamespace(
        size_bytes=1 << 30,
        start_ranges=lambda: ((0, 1 << 20), ((1 << 30) - 4096, 4096)),
    )
    fd = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    vmcore_module._reserve(fd, tmp_path, sparse)  # type: ignore[arg-type]
    assert os.fstat(fd).st_size == 1 << 30
    assert os.fstat(fd).st_blocks * 512 < 2 << 20
    os.close(fd)
    assert layout.ram_ranges()[0][0] == 0


def test_what_the_guest_may_ask_for_takes_no_room(tmp_path: Path) -> None:
    """Neither at its start nor at the next one, whatever it had."""
    layout = machine_layout(1024, 256)
    with open_vmcore(
        Domid(7), layout=layout, nr_vcpus=1, runtime_dir=tmp_path
    ) as vmcore:

        def there() -> int:
            return os.fstat(vmcore.fd).st_blocks * 512

        at_start = (layout.guest_mfn + 256) * PAGE_BYTES
        assert there() == at_start
        os.posix_fallocate(vmcore.fd, layout.gpa(300), 10 * PAGE_BYTES)
        assert there() == at_start + 10 * PAGE_BYTES
        vmcore.clear()
        assert there() == at_start


def _readelf(path: Path) -> str:
    done = subprocess.run(
        ["readelf", "-a", str(path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def test_valid_core(tmp_path: Path) -> None:
    with open_vmcore(
        DOMID, layout=LAYOUT, nr_vcpus=2, runtime_dir=tmp_path
    ) as core:
        assert _readelf(core.path).count("NT_PRSTATUS") == 2
        core.set_view(KernelView(virt_base=0xFFFFFFFF80000000, size_bytes=8192))
        assert "0xffffffff80000000" in _readelf(core.path)
        core.set_registers(1, Registers(rip=0x1234, gs_base=0x77))
        with pytest.raises(ValueError):
            core.set_registers(2, Registers())


def test_gdb(tmp_path: Path) -> None:
    """gdb reads by machine address, by kernel address, and registers."""
    with open_vmcore(
        DOMID, layout=LAYOUT, nr_vcpus=2, runtime_dir=tmp_path
    ) as core:
        gpa = core.layout.gpa(1)
        core.mem[gpa : gpa + 6] = b"hello\0"
        core.set_view(KernelView(virt_base=0xFFFFFFFF80000000, size_bytes=8192))
        core.set_registers(0, Registers(rip=0x1111, rsp=0x2222))
        core.set_registers(1, Registers(rip=0x3333, gs_base=-1))
        commands = [
            f"x/s {gpa:#x}",
            "x/s 0xffffffff80001000",
            "info threads",
            "p/x $rsp",
            "thread 2",
            "p/x $gs_base",
        ]
        done = subprocess.run(
            ["gdb", "-batch", "-nx", "-c", str(core.path)]
            + [word for command in commands for word in ("-ex", command)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    out = done.stdout
    assert out.count('"hello"') == 2
    assert "0x0000000000001111" in out
    assert "0x0000000000003333" in out
    assert "0x2222" in out
    assert "0xffffffffffffffff" in out
    assert out.count("New LWP") == 2


def test_second_start_is_refused(tmp_path: Path) -> None:
    with open_vmcore(DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path):
        with (
            pytest.raises(HostError, match="domain 7 is running already"),
            open_vmcore(DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path),
        ):
            pass
        # The refused one must not have taken the owner's file away.
        assert os.listdir(tmp_path) == ["vmcore.7"]


_OWNER = """
import sys, time
from pathlib import Path
from xenner.types import Domid
from xennerd.vm.memory.layout import PAGE_BYTES, machine_layout
from xennerd.vm.memory.vmcore import open_vmcore
with open_vmcore(Domid(7), layout=machine_layout(256), nr_vcpus=1,
                 runtime_dir=Path(sys.argv[1])) as core:
    core.mem[0x800000:0x800003] = b"old"
    print("ready", flush=True)
    time.sleep(60)
"""


def test_killed_owner(tmp_path: Path) -> None:
    """After SIGKILL the next start cleans up; a reader keeps the old file."""
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        assert find_free_domid(tmp_path) == 1
        with (
            pytest.raises(HostError, match="is running already"),
            open_vmcore(DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path),
        ):
            pass
        owner.send_signal(signal.SIGKILL)
    path = tmp_path / "vmcore.7"
    with (
        path.open("rb") as reader,
        mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ) as old,
        open_vmcore(
            DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path
        ) as core,
    ):
        assert core.mem[0x800000:0x800003] == bytes(3)
        assert old[0x800000:0x800003] == b"old"
    assert os.listdir(tmp_path) == []


def test_who_only_looks_at_a_dead_one_does_not_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "vmcore.7"
    path.write_bytes(b"dead")
    with path.open("rb") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        leave = threading.Timer(
            0.1, fcntl.flock, (looker.fileno(), fcntl.LOCK_UN)
        )
        leave.start()
        with open_vmcore(
            DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path
        ) as core:
            assert path.stat().st_ino == os.fstat(core.fd).st_ino
        leave.join()


def test_error_inside_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError),
        open_vmcore(DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path),
    ):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_keep(tmp_path: Path) -> None:
    with open_vmcore(
        DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path
    ) as core:
        preserve(core.path)
    assert _readelf(tmp_path / "vmcore.7").count("NT_PRSTATUS") == 1
    with (
        pytest.raises(DomidTakenError, match="stays"),
        open_vmcore(DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path),
    ):
        pass
    assert os.listdir(tmp_path) == ["vmcore.7"]
    assert find_free_domid(tmp_path) == 1
    (tmp_path / "vmcore.7").rename(tmp_path / "vmcore.1")
    assert find_free_domid(tmp_path) == 2


def test_a_runtime_directory_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    # Not for ever: each of its domids looks as if somebody had it.
    domid = find_free_domid(path)
    with (
        pytest.raises(HostError, match="cannot use the runtime directory"),
        open_vmcore(domid, layout=LAYOUT, nr_vcpus=1, runtime_dir=path),
    ):
        pass


def test_no_domid_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xenner.vmcorelocks.MAX_DOMID", 2)
    for domid in (1, 2):
        keep_by_hand = tmp_path / f"vmcore.{domid}"
        keep_by_hand.touch()
        preserve(keep_by_hand)
    with pytest.raises(HostError, match="no domid is free"):
        find_free_domid(tmp_path)


def test_removed_by_hand(tmp_path: Path) -> None:
    with open_vmcore(
        DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path
    ) as core:
        core.path.unlink()
        core.path.write_text("somebody else's")
    assert core.path.read_text() == "somebody else's"


def test_clear(tmp_path: Path) -> None:
    with open_vmcore(
        DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path
    ) as core:
        core.mem[abi.EMU_IMAGE_GPA] = 1
        core.mem[LAYOUT.size_bytes - 1] = 1
        core.set_registers(0, Registers(rip=5))
        core.clear()
        assert core.mem[abi.EMU_IMAGE_GPA] == 0
        assert core.mem[LAYOUT.size_bytes - 1] == 0
        assert core.path.stat().st_blocks * 512 >= LAYOUT.size_bytes
        assert "NT_PRSTATUS" in _readelf(core.path)


def test_free_domid(tmp_path: Path) -> None:
    (tmp_path / "vmcore.1").write_bytes(b"dead")
    assert find_free_domid(tmp_path) == 1
    with open_vmcore(Domid(1), layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path):
        assert find_free_domid(tmp_path) == 2


def _refused(match: str, directory: Path) -> str:
    with (
        pytest.raises(HostError, match=match) as refused,
        open_vmcore(DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=directory),
    ):
        pass
    if directory.is_dir():
        assert os.listdir(directory) == []
    return str(refused.value)


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os,
        "fstatvfs",
        lambda _fd: SimpleNamespace(f_bavail=1, f_frsize=4096, f_blocks=9),
    )
    text = _refused("not enough room", tmp_path)
    assert "remount" in text


def test_room_taken_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _offset: int, _length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    _refused("not enough room", tmp_path)


def test_file_size_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (4096, 4096))
    _refused("file size limit", tmp_path)


def test_host_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmcore_module, "filesystem_of", lambda _status: "tmpfs")
    monkeypatch.setattr(
        vmcore_module, "_available_memory_bytes", lambda: 1 << 20
    )
    _refused("this host has 1 MiB of memory left", tmp_path)


def test_no_directory(tmp_path: Path) -> None:
    _refused("cannot use the runtime directory", tmp_path / "a" / "b")


def test_link_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "vmcore.7").symlink_to("/etc/hostname")
    with (
        pytest.raises(HostError, match="remove it by hand"),
        open_vmcore(DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path),
    ):
        pass


def test_warns_off_tmpfs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(vmcore_module, "filesystem_of", lambda _status: "ext4")
    with (
        caplog.at_level(logging.WARNING),
        open_vmcore(DOMID, layout=LAYOUT, nr_vcpus=1, runtime_dir=tmp_path),
    ):
        assert "not on a tmpfs" in caplog.text
