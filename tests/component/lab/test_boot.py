# SPDX-License-Identifier: GPL-2.0-or-later
"""A host that boots, is powered off and boots again, with a guest that is
enabled: the container's life is that of its systemd."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.container import start_container
from tests.kvm.diskguest import file_in, is_clean, make_initrd, make_root

pytestmark = pytest.mark.kvm

UNIT = "xenner@1.service"
# What an operator has by hand, or by networkd.
BRIDGE = """\
[Unit]
Before=netbackd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link add xenbr0 type bridge
ExecStart=ip link set xenbr0 up
"""
CONFIG = """\
name = 'web'
kernel = '/srv/xenner/build/debian/vmlinuz'
ramdisk = '/out/initrd'
memory = 128
extra = 'root=/dev/xvda console=hvc0 quiet panic=-1'
disk = ['/out/root,raw,xvda,w']
vif = ['bridge=xenbr0']
"""
# Its interface comes last, and says that all before is done.
ROOT_INIT = """\
#!/bin/sh
export PATH=/bin
echo up >>/boots
printf '#!/bin/sh\\nmount -o remount,ro /\\nexec /bin/poweroff -f\\n' \\
    >/sbin/poweroff
chmod +x /sbin/poweroff
insmod /run/xen-netfront.ko
exec sh
"""
IS_UP = f"""\
systemctl is-system-running --wait && systemctl is-active {UNIT} || exit 1
until journalctl -q -u {UNIT} --grep 'vif 0 is connected'; do sleep 0.1; done
test "$(journalctl -q -p warning -o cat -u 'xenner*' -u '*backd')" = ''
"""


def _enable(stage: Path) -> None:
    """What `systemctl enable` does, and the files of a guest."""
    etc = stage / "root/etc"
    system = etc / "systemd/system"
    for target, unit in (
        ("multi-user.target", "xenner.target"),
        ("multi-user.target", "bridge.service"),
        ("xenner.target", UNIT),
    ):
        wants = system / f"{target}.wants"
        wants.mkdir(parents=True, exist_ok=True)
        own = "/etc" if unit == "bridge.service" else "/usr/lib"
        name = unit.replace("@1", "@")
        (wants / unit).symlink_to(f"{own}/systemd/system/{name}")
    (system / "bridge.service").write_text(BRIDGE)
    (etc / "xenner").mkdir(exist_ok=True)
    (etc / "xenner/1.cfg").write_text(CONFIG)


def test_an_enabled_guest_is_up_after_each_boot(
    usable_kvm: None,
    debian_kernel: Path,
    lab_root: Path,
    out: Path,
    tmp_path: Path,
) -> None:
    # Its packages are the host's only.
    from lab.stage import make_stage

    image = out / "root"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    # Its owner there has no number here.
    image.chmod(0o666)
    make_root(tmp_path, image, init=ROOT_INIT)
    netfront = debian_kernel.parent / "modules/xen-netfront.ko"
    given = {netfront.name: netfront.read_bytes()}
    shutil.move(make_initrd(tmp_path, debian_kernel, given), out / "initrd")
    with make_stage() as stage:
        _enable(stage)
        for nr_boots in (1, 2):
            with start_container(lab_root, stage=stage, out=out) as container:
                assert container.run(IS_UP, limit_s=60) == 0
                container.power_off(limit_s=60)
            # It was asked to shut down, while its disk was still there.
            assert file_in(image, "/boots") == b"up\n" * nr_boots
            assert is_clean(image)
