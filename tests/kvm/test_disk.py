# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian guest lives on a disk of blkbackd's: from fsck to poweroff."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.kvm.ctl import Ctl
from tests.support.diskguest import (
    WANTS_DISKS,
    Disks,
    file_in,
    is_clean,
    make_initrd,
    make_root,
    serving,
)
from tests.support.services import DOMID, Guest, Host, open_host

# What the store is asked with, xenstore-utils, the lab's root has not.
pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

XVDA, XVDB = 51712, 51728
_MIB = 1 << 20


@pytest.fixture(scope="module")
def initrd(
    tmp_path_factory: pytest.TempPathFactory, debian_kernel: Path
) -> Path:
    return make_initrd(tmp_path_factory.mktemp("initrd"), debian_kernel)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "root.img"
    with path.open("wb") as file:
        file.truncate(64 * _MIB)
    make_root(tmp_path, path)
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


def _boot(
    host: Host, disks: Disks, image: Path, *, is_qcow2: bool = False
) -> Guest:
    guest = host.boot(cmdline="root=/dev/xvda", is_up=False)
    guest.wait_for(WANTS_DISKS)
    disks.plug(XVDA, "xvda", image, is_qcow2=is_qcow2)
    guest.wait_for("FSCK-CLEAN")
    guest.wait_for("XENNER-INIT")
    return guest


def _convert(source: Path, target: Path, kind: str) -> None:
    program = shutil.which("qemu-img")
    if program is None:
        pytest.skip("packages: qemu-utils is not installed")
    subprocess.run([program, "convert", "-O", kind, source, target], check=True)


def _power_off(guest: Guest) -> None:
    guest.type("sync; mount -o remount,ro /; poweroff -f")
    assert guest.end()[0] == 0


def test_a_root_on_xvda(host: Host, disks: Disks, image: Path) -> None:
    guest = _boot(host, disks, image)
    said = guest.do("dd if=/dev/urandom of=/data bs=1M count=16; sync")
    assert "16+0 records out" in said
    inside = guest.do("sha256sum /data").split()[0]
    guest.do("cp /data /copy && sync && rm /copy && sync")
    used = os.stat(image).st_blocks
    guest.do("fstrim /")
    assert (used - os.stat(image).st_blocks) * 512 >= 15 * _MIB
    # The disk grows under it.
    os.truncate(image, 96 * _MIB)
    guest.do(f"until grep -qx {96 << 11} /sys/block/xvda/size; do :; done")
    _power_off(guest)
    assert hashlib.sha256(file_in(image, "/data")).hexdigest() == inside
    assert is_clean(image)


def test_a_root_on_qcow2(
    host: Host, disks: Disks, image: Path, tmp_path: Path
) -> None:
    qcow2 = tmp_path / "root.qcow2"
    _convert(image, qcow2, "qcow2")
    guest = _boot(host, disks, qcow2, is_qcow2=True)
    guest.do("dd if=/dev/urandom of=/data bs=1M count=4; sync")
    inside = guest.do("sha256sum /data").split()[0]
    pid = int((host.directory / f"qdisk.{DOMID}.pid").read_text())
    pidfd = os.pidfd_open(pid)
    _power_off(guest)
    # Its disks' nodes went with it, and QEMU lets go of the image.
    assert select.select([pidfd], [], [], limit_s(30))[0]
    os.close(pidfd)
    _convert(qcow2, image, "raw")
    assert hashlib.sha256(file_in(image, "/data")).hexdigest() == inside
    assert is_clean(image)


def test_plugged_in_and_out_while_it_runs(
    host: Host, disks: Disks, image: Path, tmp_path: Path
) -> None:
    guest = _boot(host, disks, image)
    ctl = Ctl(host)
    domid = str(DOMID)
    extra = tmp_path / "extra.img"
    extra.write_bytes(b"hello from outside\n" + bytes(4 * _MIB))
    for number in range(3):
        ctl("block-attach", domid, f"raw:{extra}", "xvdb", "w")
        guest.do("until [ -b /dev/xvdb ]; do :; done")
        said = guest.do("head -n 1 /dev/xvdb")
        assert "hello from outside" in said
        text = f"number {number} from inside"
        guest.do(f"echo {text} | dd of=/dev/xvdb bs=512 seek=8 conv=sync,fsync")
        again = ctl.run("block-attach", domid, f"raw:{extra}", "xvdb", "w")
        assert again.returncode == 1
        assert "is there already" in again.stderr
        ctl("block-detach", domid, "xvdb")
        guest.do("while [ -b /dev/xvdb ]; do :; done")
        assert extra.read_bytes()[4096:].startswith(text.encode())
    missing = ctl.run("block-attach", domid, f"{tmp_path}/none,raw,xvdc,w")
    assert missing.returncode == 1
    assert f"{tmp_path}/none" in missing.stderr
    assert len(ctl("block-list", domid).splitlines()) == 2
    _power_off(guest)


def test_a_limit_of_its_own_bites_until_it_is_lifted(
    host: Host, disks: Disks, image: Path, tmp_path: Path
) -> None:
    guest = _boot(host, disks, image)
    ctl = Ctl(host)
    extra = tmp_path / "extra.img"
    extra.write_bytes(os.urandom(4 * _MIB))
    # A tenth of it at once: the first MiB is over that in any case.
    spelled = f"{extra},raw,xvdb,r,bps-total=1500000"
    ctl("block-attach", str(DOMID), spelled)
    guest.do("until [ -b /dev/xvdb ]; do :; done")
    said = guest.do("dd if=/dev/xvdb bs=1M count=1 | sha256sum")
    expected = extra.read_bytes()[:_MIB]
    assert hashlib.sha256(expected).hexdigest() in said
    bitten = disks.statistics(XVDB)
    assert bitten["throttled"] >= 1
    assert bitten["throttled_us"] > 0
    assert disks.statistics(XVDA)["throttled"] == 0
    host.run("xenstore-write", f"{disks.backend(XVDB)}/bps-total", "0")
    end = time.monotonic() + limit_s(30)
    while "no limits" not in disks.log():
        assert time.monotonic() < end, disks.log()
        time.sleep(0.02)
    guest.do("dd if=/dev/xvdb of=/dev/null bs=1M skip=2")
    assert disks.statistics(XVDB)["throttled"] == bitten["throttled"]
    _power_off(guest)
