# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian on a disk of blkbackd's, whole: its init, its tools, and fio."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kvm.debianguest import FILES, SHELL_ONLY, SYSTEMD, make_debian_root
from tests.kvm.diskguest import Disks, file_in, is_clean, make_initrd, serving
from tests.kvm.outside import Guest, Host, open_host
from tests.places.rules import limit_s

# What it is made with, mmdebstrap, is only here.
pytestmark = [pytest.mark.kvm, pytest.mark.places("host")]

XVDA, XVDB = 51712, 51728
_MIB = 1 << 20
_NR_KILLS = 5
_NR_REQUESTS = 500
# It writes each block once, in any order, and reads it back: for as long as
# nobody says stop.
_FIO = (
    "fio --name=verify --filename=/dev/xvdb --direct=1 --ioengine=libaio "
    "--iodepth=16 --rw=randwrite --bsrange=4k-64k --verify=crc32c "
    "--verify_fatal=1"
)
_FIO_LOOP = (
    "rm -f /run/stop /run/ended; (until [ -e /run/stop ]; do "
    f"{_FIO} >/run/fio 2>&1 || break; done; echo $? >/run/ended) &"
)


@pytest.fixture(scope="module")
def initrd(
    tmp_path_factory: pytest.TempPathFactory, debian_kernel: Path
) -> Path:
    directory = tmp_path_factory.mktemp("initrd")
    return make_initrd(directory, debian_kernel, FILES)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "root.img"
    path.touch()
    os.truncate(path, 1024 * _MIB)
    make_debian_root(path)
    return path


@pytest.fixture
def host(usable_kvm: None, debian_kernel: Path, initrd: Path) -> Iterator[Host]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        open_host(Path(name), debian_kernel, initrd) as host,
    ):
        yield host


@pytest.fixture
def disks(host: Host) -> Iterator[Disks]:
    with serving(host) as disks:
        yield disks


def _boot(host: Host, disks: Disks, image: Path, cmdline: str) -> Guest:
    guest = host.boot("-m", "256", cmdline=cmdline, is_up=False)
    host.wait_node("control/feature-poweroff", "1")
    disks.plug(XVDA, "xvda", image)
    guest.wait_for("FSCK-CLEAN")
    guest.wait_for("XENNER-INIT")
    return guest


def test_debian_from_fsck_to_poweroff(
    host: Host, disks: Disks, image: Path
) -> None:
    guest = _boot(host, disks, image, SYSTEMD)
    assert "systemd" in guest.do("cat /proc/1/comm")
    guest.do("dd if=/dev/urandom of=/var/data bs=1M count=16 && sync")
    inside = guest.do("sha256sum /var/data").split()[0]
    guest.do("cp /var/data /var/copy && sync && rm /var/copy && sync")
    used = os.stat(image).st_blocks
    guest.do("fstrim /")
    assert (used - os.stat(image).st_blocks) * 512 >= 15 * _MIB
    guest.type("poweroff")
    assert guest.end()[0] == 0
    data = file_in(image, "/var/data")
    assert hashlib.sha256(data).hexdigest() == inside
    assert is_clean(image)
    assert "is not O_DIRECT" not in disks.log()


def test_fio_verifies_while_blkbackd_is_killed(
    host: Host, disks: Disks, image: Path, tmp_path: Path
) -> None:
    guest = _boot(host, disks, image, SHELL_ONLY)
    disk = tmp_path / "data.img"
    disk.touch()
    os.truncate(disk, 64 * _MIB)
    disks.plug(XVDB, "xvdb", disk)
    guest.do("until [ -b /dev/xvdb ]; do :; done")
    guest.type(_FIO_LOOP)
    for _ in range(_NR_KILLS):
        disks.wait_requests(XVDB, _NR_REQUESTS)
        disks.stop(signal.SIGKILL)
        disks.start()
    disks.wait_requests(XVDB, _NR_REQUESTS)
    guest.do("touch /run/stop; until [ -e /run/ended ]; do sleep 0.1; done")
    said = guest.do("cat /run/fio /run/ended")
    assert "err= 0" in said
    assert said.split()[-1] == "0", said
    guest.type("sync; mount -o remount,ro /; poweroff -ff")
    assert guest.end()[0] == 0
    assert is_clean(image)
    # What it has read there is on the disk.
    subprocess.run(
        [*_FIO.replace("/dev/xvdb", str(disk)).split(), "--verify_only"],
        check=True,
        capture_output=True,
        cwd=tmp_path,
        timeout=limit_s(60),
    )
