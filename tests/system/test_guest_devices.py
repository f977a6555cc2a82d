# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's disk and interfaces, from its domain file through all units."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.diskguest import make_initrd, make_root
from tests.system.commands import output_of, run

pytestmark = [pytest.mark.kvm, pytest.mark.environments("container")]

DOMID = 362
UNIT = f"xenner@{DOMID}.service"
FILE = Path(f"/etc/xenner/{DOMID}.cfg")
KERNEL = Path(__file__).resolve().parents[2] / "build/debian/vmlinuz"
# The units have a /tmp of their own.
IMAGES = Path("/var/lib/xenner-test")
BRIDGE = "xbrtest"
TAP = f"vif{DOMID}.0"
# Xen's own scripts, and the tap that one of them has named.
XEN = Path(__file__).resolve().parents[2] / "build/xen-utils/etc/xen/scripts"
SCRIPTS = Path("/etc/xenner/test-scripts")
SCRIPTS_TAP = "xtscript"
UNITS = ("xenstored.service", "blkbackd.service", "netbackd.service")
# It lives until somebody has looked at its tap, and then some.
ROOT_INIT = """\
#!/bin/sh
export PATH=/bin
echo "from the guest" >/proof
sleep 3
mount -o remount,ro /
poweroff -f
"""


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    IMAGES.mkdir(exist_ok=True)
    image = IMAGES / "root.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    shutil.chown(image, "xenner-blk")
    make_root(tmp_path, image, init=ROOT_INIT)
    initrd = make_initrd(tmp_path, KERNEL)
    (IMAGES / "initrd").write_bytes(initrd.read_bytes())
    yield image
    for path in IMAGES.iterdir():
        path.unlink()


@pytest.fixture
def backends() -> Iterator[None]:
    output_of("ip", "link", "add", BRIDGE, "type", "bridge")
    shutil.copytree(XEN, SCRIPTS)
    # By its own name netbackd would not run it.
    (SCRIPTS / "vif-bridge").rename(SCRIPTS / "vif-mine")
    output_of("systemctl", "start", *UNITS)
    yield
    run("systemctl", "stop", UNIT)
    daemons = (*UNITS, "xennerd", "evtchnd")
    output_of("systemctl", "stop", *daemons, "evtchnd.socket")
    output_of("ip", "link", "del", BRIDGE)
    shutil.rmtree(SCRIPTS)
    FILE.unlink(missing_ok=True)


def test_a_root_on_a_disk_and_a_tap_in_a_bridge(
    image: Path, backends: None
) -> None:
    FILE.write_text(
        f"name = 'disk'\nkernel = '{KERNEL}'\nmemory = 192\n"
        f"ramdisk = '{IMAGES}/initrd'\n"
        "extra = 'root=/dev/xvda console=hvc0 panic=-1'\n"
        f"disk = ['{image},raw,xvda,rw']\nvif = ['bridge={BRIDGE}',\n"
        f"'bridge={BRIDGE},script={SCRIPTS}/vif-mine,vifname={SCRIPTS_TAP}']\n"
    )
    output_of("systemctl", "start", UNIT)
    for tap in (TAP, SCRIPTS_TAP):
        output_of(
            *("timeout", "20", "sh", "-c"),
            f"until ip link show master {BRIDGE} | grep -q ' {tap}:'; "
            "do sleep 0.1; done",
        )
    output_of(
        *("timeout", "25", "sh", "-c"),
        f"while systemctl --quiet is-active {UNIT}; do sleep 0.1; done",
    )
    assert output_of("systemctl", "show", UNIT, "-PResult") == "success\n"
    proof = run("debugfs", "-R", "cat /proof", str(image))
    assert proof.stdout == "from the guest\n"
    assert run("e2fsck", "-f", "-n", str(image)).returncode == 0
    for unit in UNITS:
        assert run("systemctl", "is-active", unit).stdout == "active\n"
