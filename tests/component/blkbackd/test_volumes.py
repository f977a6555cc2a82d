# SPDX-License-Identifier: GPL-2.0-or-later
"""What a disk may be, how it grows and fails, and what is told of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.component.blkbackd.disk import DISK_BYTES
from tests.support.backend import BackendRig
from tests.support.blk.rig import DEVICE, Frontend, Rig
from tests.support.evtchnd import LIMIT_S
from xenner.xenbus import XenbusState

READ, WRITE, BARRIER, FLUSH = range(4)
OK = "status=0 same=1"
NR_SECTORS = DISK_BYTES // 512


@contextmanager
def _loop(path: Path, block_bytes: int) -> Iterator[Path]:
    found = subprocess.run(
        ["losetup", "-f", "--show", "-b", str(block_bytes), path],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        pytest.skip(f"loop: {found.stderr.strip()}")
    device = found.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


@contextmanager
def _mounted(
    directory: Path, kind: str, options: str, source: Path | str = "none"
) -> Iterator[Path]:
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", kind, "-o", options, source, directory],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"root: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def _error_of(frontend: Frontend) -> str:
    path = f"error/backend/vbd/{frontend.domid}/{DEVICE}/error"
    return frontend.rig.read(f"/local/domain/0/{path}") or ""


def _row(rig: BackendRig) -> dict[str, Any]:
    rows = json.loads(rig.status("--json"))
    row: dict[str, Any] = rows[f"backend/vbd/7/{DEVICE}"]
    return row


@pytest.mark.parametrize("prefix", ["", "file:", "aio:"])
def test_a_path_with_colons(rig: Rig, disk: Path, prefix: str) -> None:
    path = disk.rename(disk.with_name("pci-0:1:phy:0"))
    frontend = rig.start_frontend(7)
    frontend.plug(Path(f"{prefix}{path}"))
    frontend.connect()
    assert frontend.ask(f"io {READ} 2048 8 1") == OK
    assert frontend.node("physical-device-path") == str(path)
    assert frontend.node("physical-device") is None


def test_a_device_of_4096_byte_sectors(rig: Rig, disk: Path) -> None:
    with _loop(disk, 4096) as device:
        frontend = rig.start_frontend(7)
        frontend.plug(Path(f"phy:{device.relative_to('/dev')}"))
        frontend.connect()
        number = os.stat(device).st_rdev
        assert frontend.node("physical-device") == (
            f"{os.major(number):x}:{os.minor(number):x}"
        )
        assert frontend.node("sector-size") == "4096"
        assert frontend.node("physical-sector-size") == "4096"
        assert frontend.node("sectors") == str(NR_SECTORS)
        assert frontend.ask(f"io {READ} 2048 8 1") == OK
        assert frontend.ask(f"io {WRITE} 2056 16 9") == OK
        for line in (f"io {READ} 2049 8 1", f"io {WRITE} 2048 1 9"):
            assert frontend.ask(line).startswith("status=-1")
        other = rig.start_frontend(8)
        other.plug(device)
        other.wait_backend(XenbusState.CLOSED)
        assert "in use" in _error_of(other)
        frontend.close()


def test_a_sparse_file_on_a_device_of_4096_byte_sectors(
    rig: Rig, disk: Path, tmp_path: Path
) -> None:
    """Its holes may be read directly in any way, but not be written."""
    os.truncate(disk, 32 << 20)
    with _loop(disk, 4096) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        with _mounted(tmp_path / "fs", "ext4", "noatime", device) as directory:
            sparse = directory / "sparse"
            sparse.touch()
            os.truncate(sparse, 1 << 20)
            frontend = rig.start_frontend(7)
            frontend.plug(sparse)
            frontend.connect()
            assert frontend.node("sector-size") == "512"
            assert frontend.ask(f"io {WRITE} 9 1 9") == OK
            assert frontend.ask(f"io {READ} 9 1 9") == OK
            assert f"{sparse} is not O_DIRECT: " in rig.log()
            frontend.close()


@pytest.mark.parametrize("mode", ["r", "w"])
def test_a_fifo_is_refused(rig: Rig, tmp_path: Path, mode: str) -> None:
    """And not opened, which is to wait for whoever writes."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    frontend = rig.start_frontend(7)
    frontend.plug(path, mode=mode)
    frontend.wait_backend(XenbusState.CLOSED)
    assert "neither a block device nor" in _error_of(frontend)


def test_a_partition_and_what_it_can_discard(rig: Rig, disk: Path) -> None:
    with _loop(disk, 512) as device:
        # From the second sector on: the first whole 4 KiB are the ninth's.
        subprocess.run(["addpart", device, "1", "1", "8191"], check=True)
        frontend = rig.start_frontend(7)
        frontend.plug(Path(f"{device}p1"))
        frontend.connect()
        assert frontend.node("sectors") == "8191"
        assert frontend.node("discard-granularity") == "4096"
        assert frontend.node("discard-alignment") == "3584"
        assert frontend.ask(f"io {WRITE} 7 8 9") == OK
        assert frontend.ask("discard 7 8") == "status=0"
        assert frontend.ask(f"io {READ} 7 8 0") == OK
        frontend.close()
        subprocess.run(["delpart", device, "1"], check=True)


def test_a_cdrom_is_never_written(rig: Rig, disk: Path) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk, **{"device-type": "cdrom"})
    frontend.connect()
    assert frontend.node("info") == "5"
    assert frontend.ask(f"io {WRITE} 0 8 1").startswith("status=-1")


def test_readers_share_and_a_writer_does_not(rig: Rig, disk: Path) -> None:
    readers = [rig.start_frontend(domid) for domid in (7, 8)]
    for reader in readers:
        reader.plug(disk, mode="r")
        reader.connect()
    writer = rig.start_frontend(9)
    writer.plug(disk)
    writer.wait_backend(XenbusState.CLOSED)
    assert "in use" in _error_of(writer)
    # Unless the operator has said that they know what they do.
    rig.store.write(f"{writer.backend}/mode", "w!")
    writer.connect()
    assert writer.ask(f"io {WRITE} 2048 8 55") == OK
    assert readers[0].ask(f"io {READ} 2048 8 55") == OK


def _qemu_io(disk: Path, *options: str) -> str:
    """What QEMU says when it opens the disk with these, and ends."""
    if not shutil.which("qemu-io"):
        pytest.skip("packages: qemu-utils is not installed")
    return subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "length", *options, disk],
        check=False,
        capture_output=True,
        text=True,
    ).stderr


@contextmanager
def _open_in_qemu(disk: Path, *options: str) -> Iterator[None]:
    if not shutil.which("qemu-io"):
        pytest.skip("packages: qemu-utils is not installed")
    pipe = subprocess.PIPE
    command = ["qemu-io", "-f", "raw", *options, str(disk)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"length\n")
        process.stdin.flush()
        assert b"8 MiB" in process.stdout.readline()
        yield
        process.stdin.close()


def test_qemu_is_kept_out(rig: Rig, disk: Path) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect()
    assert 'Failed to get "write" lock' in _qemu_io(disk)
    frontend.close()
    assert not _qemu_io(disk)
    # Readers together.
    rig.store.write(f"{frontend.backend}/mode", "r")
    frontend.set_state(XenbusState.INITIALISING)
    frontend.connect()
    assert not _qemu_io(disk, "-r")
    assert 'Failed to get "write" lock' in _qemu_io(disk)


@pytest.mark.parametrize(
    ("options", "mode", "is_served"),
    [
        ((), "w", False),
        ((), "r", False),
        (("-r",), "r", True),
        ((), "w!", True),
    ],
)
def test_what_qemu_has(
    rig: Rig, disk: Path, options: tuple[str, ...], mode: str, is_served: bool
) -> None:
    frontend = rig.start_frontend(7)
    with _open_in_qemu(disk, *options):
        frontend.plug(disk, mode=mode)
        if is_served:
            frontend.connect()
        else:
            frontend.wait_backend(XenbusState.CLOSED)
            assert "in use" in _error_of(frontend)


def test_a_file_that_grows_and_shrinks(frontend: Frontend, disk: Path) -> None:
    rig = frontend.rig
    beyond = f"io {WRITE} {NR_SECTORS} 8 3"
    assert frontend.ask(beyond).startswith("status=-1")
    os.truncate(disk, DISK_BYTES * 2)
    rig.wait_node(f"{frontend.backend}/sectors", str(NR_SECTORS * 2))
    assert frontend.ask(beyond) == OK
    os.truncate(disk, DISK_BYTES)
    rig.wait_node(f"{frontend.backend}/sectors", str(NR_SECTORS))
    assert frontend.ask(beyond).startswith("status=-1")
    assert frontend.backend_state() is XenbusState.CONNECTED


def test_an_image_that_ends_within_a_sector(rig: Rig, disk: Path) -> None:
    """Its tail is not lost without a word, nor when it gets one later."""
    os.truncate(disk, DISK_BYTES + 100)
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect()
    said = "bytes, of which the guest sees"
    rig.wait_log(f"{disk} has {DISK_BYTES + 100} {said} {DISK_BYTES}: whole")
    os.truncate(disk, DISK_BYTES * 2 + 511)
    rig.wait_log(f"has {DISK_BYTES * 2 + 511} {said} {DISK_BYTES * 2}: whole")


def test_a_device_that_grows_and_shrinks(rig: Rig, disk: Path) -> None:
    with _loop(disk, 512) as device:
        frontend = rig.start_frontend(7)
        frontend.plug(device)
        frontend.connect()
        for nr_sectors in (NR_SECTORS * 2, NR_SECTORS):
            os.truncate(disk, nr_sectors * 512)
            subprocess.run(["losetup", "-c", device], check=True)
            rig.wait_node(f"{frontend.backend}/sectors", str(nr_sectors))
            # And the state once more, which is what Linux' frontend minds.
            rig.wait_log(f"has {nr_sectors} sectors now")
            end = f"io {WRITE} {nr_sectors - 8} 8 3"
            assert frontend.ask(end) == OK
            beyond = f"io {WRITE} {nr_sectors - 7} 8 3"
            assert frontend.ask(beyond).startswith("status=-1")
        frontend.close()


def test_a_limit_of_requests_that_changes(frontend: Frontend) -> None:
    """The clock is real: no test outlives what the limit makes wait."""
    rig = frontend.rig
    rig.store.write(f"{frontend.backend}/iops-total", "many")
    rig.wait_log("iops-total is no number", 1)
    rig.store.write(f"{frontend.backend}/bps-total", "1")
    rig.store.write(f"{frontend.backend}/iops-total", "1000000")
    rig.wait_log("1000000 requests/s, 100000 at once; 1 bytes/s", 1)
    for sector in (0, 8, 16):
        assert frontend.ask(f"later {sector}") == "asked"
    end = time.monotonic() + LIMIT_S
    while _row(rig)["throttled"] != 1:
        assert time.monotonic() < end
    rig.store.write(f"{frontend.backend}/bps-total", "0")
    assert frontend.ask("answers") == "answers=3"


def test_no_space_is_told_and_survived(rig: Rig, tmp_path: Path) -> None:
    with _mounted(tmp_path / "small", "tmpfs", "size=1m") as directory:
        disk = directory / "disk"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        frontend = rig.start_frontend(7)
        frontend.plug(disk)
        frontend.connect()
        assert frontend.ask(f"io {WRITE} 0 2048 1") == OK
        assert frontend.ask(f"io {WRITE} 4096 2048 1").startswith("status=-1")
        rig.wait_node(
            f"/local/domain/0/error/backend/vbd/7/{DEVICE}/error",
            "sector 4096: No space left on device",
        )
        # The guest hears of each, the journal of the first.
        for sector in range(4096, 14336, 2048):
            assert frontend.ask(f"io {WRITE} {sector} 2048 1").startswith(
                "status=-1"
            )
        assert rig.log().count("No space left") == 1
        assert _row(rig)["errors"] == 6
        assert frontend.ask(f"io {READ} 0 2048 1") == OK
        assert frontend.ask("discard 0 2048") == "status=0"
        assert frontend.ask(f"io {WRITE} 4096 1024 1") == OK
        frontend.close()


def test_status(frontend: Frontend) -> None:
    assert frontend.ask(f"io {READ} 2048 8 1") == OK
    assert frontend.ask(f"io {WRITE} 0 16 1") == OK
    assert frontend.ask(f"none {FLUSH}") == "status=0"
    row = _row(frontend.rig)
    assert (row["reads"], row["read_bytes"]) == (1, 4096)
    assert (row["writes"], row["write_bytes"]) == (1, 8192)
    assert sum(row["read_latency"]) == sum(row["flush_latency"]) == 1
    assert (row["depth"], row["max_depth"]) == (0, 1)
    table = frontend.rig.status().splitlines()
    assert table[0].split()[:3] == ["vbd", "reads", "read_bytes"]
    assert table[1].split()[:3] == [f"vbd7.{DEVICE}", "1", "4096"]
    text = frontend.rig.status("--prometheus")
    labels = f'devid="{DEVICE}",domid="7"'
    assert f"blkbackd_write_bytes_total{{{labels}}} 8192.0" in text
    assert "# TYPE blkbackd_depth gauge" in text
    assert "# TYPE blkbackd_read_latency_seconds histogram" in text
    last = f'read_latency_seconds_bucket{{{labels},le="+Inf"}} 1.0'
    assert last in text
    assert re.search(r"read_latency_seconds_sum\{.*\} [\de.-]+", text)


def test_a_disk_without_o_direct_says_why(
    rig: Rig, disk: Path, tmp_path: Path
) -> None:
    with _mounted(tmp_path / "memory", "ramfs", "mode=0700") as directory:
        copy = directory / "disk"
        copy.write_bytes(disk.read_bytes())
        frontend = rig.start_frontend(7)
        frontend.plug(copy)
        frontend.connect()
        assert frontend.ask(f"io {READ} 2048 8 1") == OK
        assert frontend.ask(f"io {WRITE} 2049 1 9") == OK
        assert f"{copy} is not O_DIRECT: " in rig.log()
        frontend.close()
