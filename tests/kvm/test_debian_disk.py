# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian on a disk of blkbackd's, whole: its init, its tools, and fio; and the
lives of other disks as it sees them."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.kvm.ctl import Ctl
from tests.support.debianguest import CMDLINE, FILES, make_debian_root
from tests.support.diskguest import (
    WANTS_DISKS,
    Disks,
    file_in,
    is_clean,
    make_initrd,
    serving,
)
from tests.support.services import DOMID, Guest, Host, open_host

# What it is made with, mmdebstrap, is only here.
pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

XVDA, XVDB = 51712, 51728
_MIB = 1 << 20
# systemd starts a hundred processes, which other tests may slow down.
_BOOT_LIMIT_S = 240
_NR_KILLS = 5
_NR_REQUESTS = 500
# It writes each block once, in any order, and reads it back: for as long as
# nobody says stop. Each CPU has its half, and its queue.
_FIO = (
    "fio --name=verify --filename=/dev/xvdb --direct=1 --ioengine=libaio "
    "--iodepth=16 --rw=randwrite --bsrange=4k-64k --verify=crc32c "
    "--verify_fatal=1 --size=32m --offset_increment=32m --numjobs=2 "
    "--group_reporting"
)
_EACH_ON_ITS_CPU = " --cpus_allowed=0,1 --cpus_allowed_policy=split"
_FIO_LOOP = (
    "(until [ -e /run/stop ]; do "
    f"{_FIO}{_EACH_ON_ITS_CPU} >/run/fio 2>&1 || break; done; "
    "echo $? >/run/ended) &"
)
# As Linux' frontend names them (xen-blkfront.c, xen_translate_vdev): IDE's and
# SCSI's are xvd's with the same letter, and so sda1 would be the root's.
_SPELLINGS = {
    "xvdm1": "xvdm1",
    "sdn1": "xvdn1",
    "hdc": "xvdc",
    "d5p2": "xvdf2",
    "xvdaa": "xvdaa",
}


@dataclass
class Debian:
    """One that runs, and what is to be found on its disk afterwards."""

    host: Host
    disks: Disks
    guest: Guest
    directory: Path
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def image(self) -> Path:
        return self.directory / "root.img"

    def file(self, name: str, size_bytes: int = _MIB, text: str = "") -> Path:
        path = self.directory / name
        path.write_text(text)
        os.truncate(path, size_bytes)
        return path

    @contextmanager
    def disk(self, spelling: str, node: str) -> Iterator[int]:
        """A disk that the guest has as /dev/NODE; its devid. It is taken back
        in the end."""
        devid = self.disks.plug_spelled(spelling)
        self.guest.do(f"until [ -b /dev/{node} ]; do sleep 0.1; done")
        yield devid
        self.disks.unplug(devid)
        self.wait_gone(node)

    def wait_gone(self, node: str) -> None:
        self.guest.do(f"while [ -b /dev/{node} ]; do sleep 0.1; done")


@pytest.fixture(scope="module")
def debian(
    usable_kvm: None,
    debian_kernel: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Debian]:
    directory = tmp_path_factory.mktemp("debian")
    initrd = make_initrd(directory, debian_kernel, FILES)
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        open_host(Path(name), debian_kernel, initrd) as host,
        serving(host) as disks,
    ):
        guest = host.boot(
            "-m", "256", "-smp", "2", cmdline=CMDLINE, is_up=False
        )
        debian = Debian(host, disks, guest, directory)
        make_debian_root(debian.file("root.img", 1024 * _MIB))
        guest.wait_for(WANTS_DISKS, _BOOT_LIMIT_S)
        disks.plug(XVDA, "xvda", debian.image)
        guest.wait_for("FSCK-CLEAN", _BOOT_LIMIT_S)
        guest.wait_for("XENNER-INIT", _BOOT_LIMIT_S)
        yield debian
        guest.type("poweroff")
        assert guest.end(_BOOT_LIMIT_S)[0] == 0
        _check_root(debian)
        assert "is not O_DIRECT" not in disks.log()


def _check_root(debian: Debian) -> None:
    for name, digest in debian.digests.items():
        data = file_in(debian.image, name)
        assert hashlib.sha256(data).hexdigest() == digest
    assert is_clean(debian.image)


def test_what_it_frees_comes_back(debian: Debian) -> None:
    guest = debian.guest
    assert "systemd" in guest.do("cat /proc/1/comm")
    guest.do("dd if=/dev/urandom of=/var/data bs=1M count=16 && sync")
    said = guest.do("sha256sum /var/data")
    debian.digests["/var/data"] = said.split()[0]
    guest.do("cp /var/data /var/copy && sync && rm /var/copy && sync")
    used = os.stat(debian.image).st_blocks
    guest.do("fstrim /")
    now = os.stat(debian.image).st_blocks
    assert (used - now) * 512 >= 15 * _MIB


def test_fio_verifies_while_blkbackd_is_killed(debian: Debian) -> None:
    guest, disks = debian.guest, debian.disks
    file = debian.file("data.img", 64 * _MIB)
    with debian.disk(f"{file},raw,xvdb,w", "xvdb"):
        cpus = guest.do("cat /sys/block/xvdb/mq/*/cpu_list").split()
        assert sorted(cpus) == ["0", "1"]
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
    # What it has read there is in the file.
    subprocess.run(
        [*_FIO.replace("/dev/xvdb", str(file)).split(), "--verify_only"],
        check=True,
        capture_output=True,
        cwd=debian.directory,
        timeout=limit_s(60),
    )


def test_disks_by_all_their_names(debian: Debian) -> None:
    devids = {}
    for vdev, node in _SPELLINGS.items():
        path = debian.file(vdev, text=f"this is {vdev}\n")
        devids[node] = debian.disks.plug_spelled(f"{path},raw,{vdev},w")
    for vdev, node in _SPELLINGS.items():
        debian.guest.do(f"until [ -b /dev/{node} ]; do sleep 0.1; done")
        said = debian.guest.do(f"head -n 1 /dev/{node}")
        assert said == f"this is {vdev}\n"
    # A partition without its disk.
    debian.guest.do("! [ -e /dev/xvdm ] && ! [ -e /dev/xvdn ]")
    for node, devid in devids.items():
        debian.disks.unplug(devid)
        debian.wait_gone(node)


def test_disks_that_are_only_read(debian: Debian) -> None:
    guest = debian.guest
    path = debian.file("readonly", text="one for two\n")
    with (
        debian.disk(f"{path},raw,xvdg,r", "xvdg"),
        debian.disk(f"file:{path},xvdh:cdrom,r", "xvdh"),
    ):
        for node in ("xvdg", "xvdh"):
            assert guest.do(f"head -n 1 /dev/{node}") == "one for two\n"
            assert guest.do(f"blockdev --getro /dev/{node}") == "1\n"
            write = f"dd if=/dev/zero of=/dev/{node} count=8 conv=fsync"
            guest.do(f"! {write}")
    assert path.read_bytes().startswith(b"one for two\n")


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_taken_away_while_it_is_mounted(
    debian: Debian, force: tuple[str, ...]
) -> None:
    guest = debian.guest
    path = debian.file("mounted", 16 * _MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", path], check=True)
    debian.disks.plug_spelled(f"{path},raw,xvdj,w")
    guest.do("until [ -b /dev/xvdj ]; do sleep 0.1; done")
    guest.do("mount /dev/xvdj /mnt && echo kept >/mnt/file && sync")
    guest.do("exec 9>/mnt/open")
    Ctl(debian.host)("block-detach", *force, str(DOMID), "xvdj")
    debian.wait_gone("xvdj")
    # It is an error for who uses it, and for nobody else.
    guest.do("! dd if=/dev/zero of=/mnt/more bs=1M count=1 conv=fsync")
    guest.do("exec 9>&-; umount -l /mnt; touch /var/alive && sync")
    # What was told to be on the disk is there; the journal is not empty.
    assert subprocess.run(["e2fsck", "-f", "-p", path]).returncode <= 1
    assert file_in(path, "/file") == b"kept\n"
    # And it is nobody's any more.
    with debian.disk(f"{path},raw,xvdj,w", "xvdj"):
        guest.do("mount /dev/xvdj /mnt && grep -qx kept /mnt/file")
        guest.do("umount /mnt")
    assert is_clean(path)


def test_the_driver_lets_go(debian: Debian) -> None:
    guest, disks = debian.guest, debian.disks
    driver = "/sys/bus/xen/drivers/vbd"
    path = debian.file("bound", text="still here\n")
    devid = disks.plug_spelled(f"{path},raw,xvdk,w")
    guest.do("until [ -b /dev/xvdk ]; do sleep 0.1; done")
    guest.do(f"echo vbd-{devid} >{driver}/unbind")
    debian.wait_gone("xvdk")
    # As with Linux' backend: Closed is the end until it is plugged in again,
    # and the volume is nobody's.
    disks.wait_state(devid, "6")
    guest.do(f"echo vbd-{devid} >{driver}/bind && ls -d {driver}/vbd-{devid}")
    with debian.disk(f"{path},raw,xvdl,w", "xvdl"):
        assert guest.do("head -n 1 /dev/xvdl") == "still here\n"
    disks.remove(devid)
    guest.do(f"while [ -e {driver}/vbd-{devid} ]; do sleep 0.1; done")
    with debian.disk(f"{path},raw,xvdk,w", "xvdk"):
        assert guest.do("head -n 1 /dev/xvdk") == "still here\n"
