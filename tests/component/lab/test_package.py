# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's package: built with Debian's tools, installed on a Debian that has
nothing of it, replaced under a running guest, removed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from demo.initramfs import make_initramfs
from lab.container import start_container
from tests.support.services import POWEROFF

pytestmark = pytest.mark.kvm

TOP = Path(__file__).resolve().parents[3]
_INIT = b"""\
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev 2>/dev/null
insmod /xen-blkfront.ko
while :; do
    dd if=/dev/urandom of=/dev/xvda bs=4k count=16 conv=fsync 2>/dev/null
    sleep 0.1
done
"""
_CONFIG = """\
name = 'web'
kernel = '/out/vmlinuz'
ramdisk = '/out/initramfs'
memory = 192
extra = 'console=hvc0 panic=-1'
disk = ['/var/lib/web.img,raw,xvda,w']
"""
_RUN = """\
set -e
exec >/out/log 2>&1
PS4='+ $SECONDS '
set -x
pids() { systemctl show -P MainPID evtchnd xenstored blkbackd xennerd; }
changes() {
    before=$(head -c 65536 /var/lib/web.img | sha256sum)
    while [ "$(head -c 65536 /var/lib/web.img | sha256sum)" = "$before" ]; do
        sleep 0.2
    done
}
dpkg -i /out/xenner_*.deb
systemctl is-active evtchnd.socket xenner.target xennerd xenstored blkbackd
truncate -s 16M /var/lib/web.img
chown xenner-blk /var/lib/web.img
cp /out/web.cfg /etc/xenner/7.cfg
systemctl start xenner@7
changes

# As an upgrade: all daemons are new, the guest is not.
guest=$(systemctl show -P MainPID xenner@7)
pids >/run/before
dpkg -i /out/xenner_*.deb
pids >/run/after
! grep -q -x -f /run/before /run/after
changes
[ "$(systemctl show -P MainPID xenner@7)" = "$guest" ]

dpkg -i /out/xenner-xl_*.deb
[ "$(xl domid web)" = 7 ]
dpkg -r xenner-xl xenner
[ ! -e /usr/bin/xl ]
journalctl -q -o cat -u xenner@7 >/out/story
[ -z "$(systemctl --failed --plain --no-legend)" ]
[ -z "$(pgrep -u xenner-vm,xenner-blk,xenner-store,xennerd)" ]
! journalctl -q -o cat | grep Traceback
# What people have asked for is not a package's to remove.
dpkg -P xenner
[ -e /etc/xenner/7.cfg ]
[ ! -e /run/xenner ]
journalctl -q -o cat -p warning -t xenner -t xennerd -t evtchnd -t blkbackd \\
    -t netbackd -t xenner-xenstored >/out/warnings
"""


@pytest.fixture(scope="module")
def packages() -> list[Path]:
    """The .deb files."""
    subprocess.run([TOP / "tools/deb"], check=True, timeout=500)
    return sorted((TOP / "build/package").glob("*.deb"))


def test_install_upgrade_remove(
    packages: list[Path],
    debian_kernel: Path,
    lab_root: Path,
    stage: Path,
    out: Path,
) -> None:
    names = {path.name.partition("_")[0] for path in packages}
    assert names == {"xenner", "xenner-xl"}
    for path in packages:
        shutil.copy(path, out)
    shutil.copy(debian_kernel, out / "vmlinuz")
    blkfront = debian_kernel.parent / "modules/xen-blkfront.ko"
    given = {
        "sbin/poweroff": POWEROFF,
        blkfront.name: blkfront.read_bytes(),
    }
    (out / "initramfs").write_bytes(make_initramfs(_INIT, given))
    (out / "run.sh").write_text(_RUN)
    (out / "web.cfg").write_text(_CONFIG)
    with start_container(lab_root, stage=stage, out=out) as container:
        status = container.run("bash /out/run.sh", limit_s=240)
    assert status == 0, (out / "log").read_text()[-3000:]
    story = (out / "story").read_text()
    assert "web: has ended: poweroff" in story, story
    assert (out / "warnings").read_text() == ""
