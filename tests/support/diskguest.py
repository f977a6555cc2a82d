# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian guest whose root is on xvda, and the blkbackd that serves it.

The kernel and its modules are Debian's; the root is busybox on ext4.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from demo.initramfs import BUSYBOX, make_initramfs
from tests.environments.rules import limit_s
from tests.support.blk.xenqemu import qemu_environment
from tests.support.evtchnd import TOP
from tests.support.services import DOMID, Host
from xenner.listening import listener_of
from xenner.types import Domid
from xenner.xenstore import Xenstore
from xenner.xldisk import parse_disk
from xennerd.nodes.device import disk_nodes
from xennerd.nodes.writing import replace_nodes

# In the order in which they need each other.
_MODULES = (
    *("crc32c_generic", "crc16", "mbcache", "jbd2", "ext4"),
    "xen-blkfront",
)
# Said where a disk may come. Earlier is too early: Linux lists its devices
# first and watches for more then (xenbus_probe_frontend.c), and what is plugged
# in between, as no toolstack does, it never sees.
WANTS_DISKS = "XENNER-WANTS-DISKS"
# What an initramfs of Debian's does, in short: modules, fsck, switch_root.
_INITRAMFS_INIT = f"""\
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo {WANTS_DISKS}
for module in {" ".join(_MODULES)}; do insmod /modules/$module.ko; done
device=$(sed 's/.*root=\\([^ ]*\\).*/\\1/' /proc/cmdline)
init=$(sed -n 's/.* init=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
until [ -b $device ]; do sleep 0.1; done
e2fsck -f -n $device && echo FSCK-CLEAN
mkdir /new
mount -t ext4 $device /new
# systemd has units from here as well.
mount -t tmpfs tmpfs /new/run
cp -r /given/* /new/run 2>/dev/null
for directory in proc sys dev; do mount --move /$directory /new/$directory; done
exec switch_root /new ${{init:-/sbin/init}}
"""
_ROOT_INIT = """\
#!/bin/sh
export PATH=/bin PS1=
stty -echo
echo XENNER-INIT
exec sh
"""
_DIRECTORIES = ("bin", "dev", "proc", "run", "sbin", "sys", "tmp")
_NOTHING: Mapping[str, bytes] = {}


def make_root(directory: Path, device: Path, *, init: str = _ROOT_INIT) -> None:
    """An ext4 with busybox that fills `device`, a file or block device."""
    tree = directory / "tree"
    for name in _DIRECTORIES:
        (tree / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    applets = subprocess.run(
        [BUSYBOX, "--list"], check=True, capture_output=True, text=True
    ).stdout
    for name in set(applets.split()) - {"busybox"}:
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "sbin/init").write_text(init)
    (tree / "sbin/init").chmod(0o755)
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, device], check=True
    )


def make_initrd(
    directory: Path, kernel: Path, given: Mapping[str, bytes] = _NOTHING
) -> Path:
    """The initramfs that finds the root, and puts `given` below its /run."""
    modules = kernel.parent / "modules"
    files = {
        f"modules/{name}.ko": (modules / f"{name}.ko").read_bytes()
        for name in _MODULES
    }
    files |= {f"given/{name}": data for name, data in given.items()}
    program = shutil.which("e2fsck")
    if program is None:
        pytest.skip("packages: e2fsprogs is not installed")
    files["bin/e2fsck"] = Path(program).read_bytes()
    listing = subprocess.run(
        ["ldd", program], capture_output=True, text=True, check=True
    ).stdout
    for path in re.findall(r"(/\S+) \(0x", listing):
        files[path.removeprefix("/")] = Path(path).read_bytes()
    initrd = directory / "initrd"
    initrd.write_bytes(make_initramfs(_INITRAMFS_INIT.encode(), files))
    return initrd


def file_in(image: Path, name: str) -> bytes:
    """A file of an ext4 that nobody has mounted."""
    return subprocess.run(
        ["debugfs", "-R", f"cat {name}", image], check=True, capture_output=True
    ).stdout


def is_clean(image: Path) -> bool:
    """Is it an ext4 that needs no repair?"""
    return (
        subprocess.run(
            ["e2fsck", "-f", "-n", image], capture_output=True, check=False
        ).returncode
        == 0
    )


class Disks:
    """blkbackd, and the nodes that libxl writes for a guest's disks."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._log = host.directory / "blkbackd.log"
        self._socket = host.directory / "blkbackd.socket"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """blkbackd, with what an earlier one has left."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "blkbackd"],
                cwd=TOP,
                env={
                    **qemu_environment(self._host.evtchnd.environment()),
                    "XENSTORED_PATH": str(self._host.socket),
                },
                stderr=log,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its status."""
        assert self._process is not None
        if number == signal.SIGTERM:
            # One that is still starting would die of it.
            self._wait_started(self._process)
        self._process.send_signal(number)
        status = self._process.wait(limit_s(30))
        self._process = None
        return status

    def _wait_started(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + limit_s(30)
        while listener_of(self._socket) != process.pid:
            assert process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def close(self) -> None:
        """It does not run after this."""
        if self._process is not None:
            self.stop(signal.SIGKILL)

    def log(self) -> str:
        return self._log.read_text()

    def statistics(self, devid: int) -> dict[str, int]:
        """The counters of the blkbackd that runs; none before it is up and
        serves that disk."""
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(str(self._socket))
            parts = iter(lambda: client.recv(65536), b"")
            counters = json.loads(b"".join(parts))
            device = f"backend/vbd/{DOMID}/{devid}"
            found: dict[str, int] = counters.get(device, {})
            return found
        return {}

    def wait_requests(self, devid: int, count: int) -> None:
        """Until it has served so many reads and writes since it started."""
        end = time.monotonic() + limit_s(120)
        while True:
            now = self.statistics(devid)
            if now.get("reads", 0) + now.get("writes", 0) >= count:
                return
            assert time.monotonic() < end, f"{now}: {self.log()}"
            time.sleep(0.02)

    @staticmethod
    def backend(devid: int, kind: str = "vbd") -> str:
        return f"/local/domain/0/backend/{kind}/{DOMID}/{devid}"

    def plug(
        self,
        devid: int,
        name: str,
        path: Path,
        mode: str = "w",
        *,
        is_qcow2: bool = False,
    ) -> None:
        """Give the guest a disk, as libxl does for `xl block-attach`."""
        kind = "qcow2" if is_qcow2 else "raw"
        assert self.plug_spelled(f"{path},{kind},{name},{mode}") == devid

    def plug_spelled(self, text: str) -> int:
        """The same for one that is spelled as in a domain file; its devid."""
        disk = parse_disk(text)
        with Xenstore(self._host.socket) as store:
            replace_nodes(store, (), disk_nodes(Domid(DOMID), disk))
        return disk.devid

    def remove(self, devid: int) -> None:
        """Its nodes go, whatever it does, as for `block-detach --force`."""
        self._host.run("xenstore-rm", self.backend(devid))
        self._host.run(
            "xenstore-rm", f"/local/domain/{DOMID}/device/vbd/{devid}"
        )

    def unplug(self, devid: int) -> None:
        """Ask for it back, as `xl block-detach` does."""
        back = self.backend(devid)
        self._host.run("xenstore-write", f"{back}/online", "0")
        self._host.run("xenstore-write", f"{back}/state", "5")
        self.wait_state(devid, "6")
        self.remove(devid)

    def wait_state(self, devid: int, value: str) -> None:
        """Until the backend's state is this."""
        self._host.wait_path(f"{self.backend(devid)}/state", value)


@contextmanager
def serving(host: Host) -> Iterator[Disks]:
    """blkbackd runs, and ends well."""
    disks = Disks(host)
    disks.start()
    try:
        yield disks
        assert disks.stop() == 0, disks.log()
    finally:
        disks.close()
