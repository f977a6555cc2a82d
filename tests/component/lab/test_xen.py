# SPDX-License-Identifier: GPL-2.0-or-later
"""Our backends on a real Xen host, with Xen's own libraries, store and xl: a
guest of Xen's has its root on a logical volume and an interface on a bridge,
and both backends are killed under it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support.diskguest import file_in, is_clean, make_initrd, make_root

_MIB = 1 << 20
# It is at its disk until the host, who kills the backends meanwhile, has a file
# for it. What it says of itself is on its console.
_ROOT_INIT = """\
#!/bin/sh
export PATH=/bin
insmod /run/xen-netfront.ko
until ip link set eth0 up; do sleep 0.1; done
ip addr add 10.9.0.2/24 dev eth0
fetch() { wget -q -O /$1 http://10.9.0.1:8000/$1; }
ping -c 1 -s 3000 -W 60 10.9.0.1
until fetch data; do sleep 0.1; done
until fetch more; do
    cp /data /copy
    sync
    echo XENNER-COPIED >/dev/console
done
mount -o remount,ro /
poweroff -f
"""
_CONFIG = """\
name = 'web'
kernel = '/srv/xenner/build/debian/vmlinuz'
ramdisk = '/out/initrd'
memory = 256
extra = 'root=/dev/xvda console=hvc0 quiet panic=-1'
disk = ['/dev/lab/web,raw,xvda,w']
vif = ['bridge=xenbr0']
"""
_RUN = """\
set -e
PATH=$PATH:/usr/lib/xen-4.17/bin
ip link add xenbr0 type bridge
ip addr add 10.9.0.1/24 dev xenbr0
ip link set xenbr0 up
lvcreate -qq -n web -L 64M lab
dd if=/out/root of=/dev/lab/web bs=1M status=none
start() {
    systemd-run -q --unit=$1 -p Restart=always -p RuntimeDirectory=xenner \\
        -p RuntimeDirectoryPreserve=restart $2
}
# Their own units have our libraries and our store.
start disks blkbackd
start network netbackd
start files "python3 -m http.server -d /out/files 8000"
console=/var/log/xen/console/guest-web.log
touch $console
trap 'cp $console /out; journalctl -q -o cat -u disks -u network >/out/log' EXIT
# In the foreground it ends with the guest.
xl create -F /out/web.cfg >/out/xl.log 2>&1 &
guest=$!
grep -q -m 1 XENNER-COPIED <(tail -n +1 -f --pid=$guest $console)
xenstore-ls -f /local/domain/0/backend >/out/backend
for unit in disks network; do
    systemctl kill -s KILL $unit
    until [ "$(journalctl -q -o cat -u $unit | grep -c ': connected')" = 2 ]
    do
        xl domid web >/dev/null
        sleep 2
    done
done
mv /out/more /out/files
wait $guest
systemctl stop disks network
# libxl has removed what is the domain's.
xenstore-ls -f /local/domain/0/backend >/out/left 2>&1 || :
ip -o link show type tun >/out/taps
dd if=/dev/lab/web of=/out/root bs=1M status=none
"""


def test_a_guest_of_xens(
    debian_kernel: Path, lab_root: Path, out: Path, tmp_path: Path
) -> None:
    # Its packages are the host's only.
    from lab.stage import make_stage
    from lab.xenhost import boot_xen_host

    image = out / "root"
    image.touch()
    os.truncate(image, 64 * _MIB)
    make_root(tmp_path, image, init=_ROOT_INIT)
    netfront = debian_kernel.parent / "modules/xen-netfront.ko"
    given = {netfront.name: netfront.read_bytes()}
    shutil.move(make_initrd(tmp_path, debian_kernel, given), out / "initrd")
    (out / "web.cfg").write_text(_CONFIG)
    files = out / "files"
    files.mkdir()
    for path in (files / "data", out / "more"):
        path.write_bytes(os.urandom(_MIB))
    with (
        make_stage() as stage,
        boot_xen_host(stage=stage, out=out) as machine,
    ):
        assert machine.run(_RUN, limit_s=400) == 0, machine.tail()
    console = (out / "guest-web.log").read_text()
    assert "FSCK-CLEAN" in console
    assert is_clean(image)
    for copy, name in (("data", "data"), ("copy", "data"), ("more", "more")):
        assert file_in(image, f"/{copy}") == (files / name).read_bytes(), copy
    log = (out / "log").read_text()
    assert log.count("vbd/1/51712: connected") == 2, log
    assert log.count("vif/1/0: connected") == 2, log
    # Xen's libraries have been the ones.
    backend = (out / "backend").read_text()
    assert 'vbd/1/51712/physical-device-path = "/dev/lab/web"' in backend
    assert 'vif/1/0/state = "4"' in backend
    assert "/vbd" not in (out / "left").read_text()
    assert "/vif" not in (out / "left").read_text()
    assert (out / "taps").read_text() == ""
