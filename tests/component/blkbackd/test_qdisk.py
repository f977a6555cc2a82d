# SPDX-License-Identifier: GPL-2.0-or-later
"""A qcow2 disk, which Debian's QEMU serves on our libraries."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.blk.rig import DEVICE, Frontend, Rig, open_rig
from tests.support.blk.xenqemu import end_qemus, find_qemu
from tests.support.evtchnd import LIMIT_S, library
from xenner.types import Domid
from xenner.xldisk import parse_disk
from xennerd.nodes.device import disk_nodes
from xennerd.nodes.writing import replace_nodes

READ, WRITE, BARRIER, FLUSH = range(4)
OK = "status=0 same=1"


@pytest.fixture
def program() -> Path:
    if (path := find_qemu()) is not None:
        return path
    pytest.skip("packages: qemu-system-xen is neither installed nor unpacked")


@contextmanager
def _rig(directory: Path, frontend: Path, qemu: Path) -> Iterator[Rig]:
    library("xengnttab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XENNER_QDISK", str(qemu))
        with open_rig(directory, frontend) as rig:
            try:
                yield rig
            finally:
                end_qemus(directory)


def _is_running(pid: str) -> bool:
    try:
        # One that has ended may wait for who has started it.
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.fixture
def image(tmp_path: Path) -> Path:
    if not shutil.which("qemu-img"):
        pytest.skip("packages: qemu-utils is not installed")
    path = tmp_path / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True
    )
    return path


def _plug(rig: Rig, image: Path) -> Frontend:
    frontend = rig.start_frontend(7)
    frontend.plug_qdisk("qcow2", image)
    return frontend


def test_a_qcow2_disk_outlives_its_keeper(
    tmp_path: Path, frontend_program: Path, program: Path, image: Path
) -> None:
    with _rig(tmp_path, frontend_program, program) as rig:
        frontend = _plug(rig, image)
        frontend.connect()
        assert frontend.node("sectors") == str(16 << 11)
        assert frontend.ask(f"io {WRITE} 2048 8 200") == OK
        rig.kill_backend()
        rig.start_backend()
        assert frontend.ask(f"io {READ} 2048 8 200") == OK
        assert frontend.ask(f"none {FLUSH}") == "status=0"
        frontend.close()
        pid = (rig.evtchnd.runtime_dir / "qdisk.7.pid").read_text().strip()
        assert _is_running(pid)
        rig.store.remove(frontend.backend)
        end = time.monotonic() + LIMIT_S
        while _is_running(pid):
            assert time.monotonic() < end
    read = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "read -P 200 1M 4k", image],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "read 4096/4096 bytes" in read
    assert "failed" not in read


def test_a_qemu_that_dies_is_told(
    tmp_path: Path, frontend_program: Path, program: Path, image: Path
) -> None:
    with _rig(tmp_path, frontend_program, program) as rig:
        frontend = _plug(rig, image)
        frontend.connect()
        end_qemus(rig.evtchnd.runtime_dir)
        rig.wait_node(f"{frontend.backend}/state", "6")
        rig.wait_node(f"{frontend.backend}/hotplug-status", "error")
        rig.wait_log("its QEMU has ended", 1)
        # The domain is started again, before blkbackd sees that it was gone.
        nodes = disk_nodes(Domid(7), parse_disk(f"{image},qcow2,xvda,w"))
        replace_nodes(rig.store, [frontend.backend, frontend.path], nodes)
        frontend.connect()
        assert frontend.ask(f"io {WRITE} 2048 8 200") == OK


def _is_locked(image: Path) -> bool:
    """Asked of the kernel: who tried it would have the lock meanwhile."""
    return f":{image.stat().st_ino} " in Path("/proc/locks").read_text()


def _wait_locked(image: Path, *, is_so: bool = True) -> None:
    end = time.monotonic() + LIMIT_S
    while _is_locked(image) is not is_so:
        assert time.monotonic() < end


def test_an_image_of_two_domains(
    tmp_path: Path, frontend_program: Path, program: Path, image: Path
) -> None:
    """Xen's QEMU does not lock what it opens: we do, for as long as the disk
    is there."""
    with _rig(tmp_path, frontend_program, program) as rig:
        frontend = _plug(rig, image)
        frontend.connect()
        other = rig.start_frontend(8)
        for _ in range(2):
            other.plug_qdisk("qcow2", image)
            rig.wait_node(f"{other.backend}/hotplug-status", "error")
            error = f"/local/domain/0/error/backend/qdisk/8/{DEVICE}/error"
            assert "in use" in (rig.read(error) or "")
            rig.kill_backend()
            rig.start_backend()
            _wait_locked(image)
            rig.store.remove(other.backend)
        assert not (rig.evtchnd.runtime_dir / "qdisk.8.pid").exists()
        frontend.close()
        rig.store.remove(frontend.backend)
        _wait_locked(image, is_so=False)
        other.plug_qdisk("qcow2", image)
        other.connect()
        assert other.ask(f"io {READ} 2048 8 0") == OK


def test_an_image_is_free_when_its_qemu_has_ended(
    tmp_path: Path, frontend_program: Path, program: Path, image: Path
) -> None:
    """It may have to write what it knows of the image."""
    with _rig(tmp_path, frontend_program, program) as rig:
        frontend = _plug(rig, image)
        frontend.connect()
        pid_file = rig.evtchnd.runtime_dir / "qdisk.7.pid"
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGSTOP)
        rig.store.remove(frontend.backend)
        end = time.monotonic() + LIMIT_S
        while pid_file.exists():
            assert time.monotonic() < end
        other = rig.start_frontend(8)
        other.plug_qdisk("qcow2", image)
        rig.wait_node(f"{other.backend}/hotplug-status", "error")
        rig.store.remove(other.backend)
        os.kill(pid, signal.SIGCONT)
        _wait_locked(image, is_so=False)
        assert not _is_running(str(pid))
        other.plug_qdisk("qcow2", image)
        other.connect()
        assert other.ask(f"io {WRITE} 2048 8 200") == OK


def test_no_qemu_is_told(
    tmp_path: Path, frontend_program: Path, image: Path
) -> None:
    with _rig(tmp_path, frontend_program, tmp_path / "absent") as rig:
        frontend = _plug(rig, image)
        rig.wait_node(f"{frontend.backend}/state", "6")
        rig.wait_log("package qemu-system-xen has it", 1)
