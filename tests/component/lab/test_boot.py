# SPDX-License-Identifier: GPL-2.0-or-later
"""A host that boots, is powered off and boots again, with a guest that is
enabled: a container, whose life is that of its systemd, and a machine."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.container import start_container
from lab.errors import TimeLimitError
from tests.support.diskguest import file_in, is_clean, make_initrd, make_root

if TYPE_CHECKING:
    from lab.machine import Machine

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
[Install]
WantedBy=multi-user.target
"""
CONFIG = """\
name = 'web'
kernel = '{kernel}'
ramdisk = '{ramdisk}'
memory = 128
extra = 'root=/dev/xvda console=hvc0 quiet panic=-1'
disk = ['{disk},raw,xvda,w']
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
CONTAINER_CONFIG = CONFIG.format(
    kernel="/srv/xenner/build/debian/vmlinuz",
    ramdisk="/out/initrd",
    disk="/out/root",
)
MACHINE_CONFIG = CONFIG.format(
    kernel="/etc/xenner/vmlinuz",
    ramdisk="/etc/xenner/initrd",
    disk="/dev/lab/web",
)
IS_UP = f"""\
systemctl is-system-running --wait && systemctl is-active {UNIT} || exit 1
until journalctl -q -u {UNIT} --grep 'vif 0 is connected'; do
    systemctl is-active -q {UNIT} || exit 1
    sleep 0.1
done
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
    (etc / "xenner/1.cfg").write_text(CONTAINER_CONFIG)


def _make_guest(debian_kernel: Path, tmp_path: Path, out: Path) -> Path:
    """Its root, and beside it its initrd."""
    image = out / "root"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    # Its owner there has no number here.
    image.chmod(0o666)
    make_root(tmp_path, image, init=ROOT_INIT)
    netfront = debian_kernel.parent / "modules/xen-netfront.ko"
    given = {netfront.name: netfront.read_bytes()}
    shutil.move(make_initrd(tmp_path, debian_kernel, given), out / "initrd")
    return image


@pytest.mark.kvm
def test_an_enabled_guest_is_up_after_each_boot_of_a_container(
    usable_kvm: None,
    debian_kernel: Path,
    lab_root: Path,
    out: Path,
    tmp_path: Path,
) -> None:
    # Its packages are the host's only.
    from lab.stage import make_stage

    image = _make_guest(debian_kernel, tmp_path, out)
    with make_stage() as stage:
        _enable(stage)
        for nr_boots in (1, 2):
            with start_container(lab_root, stage=stage, out=out) as container:
                assert container.run(IS_UP, limit_s=60) == 0
                container.power_off(limit_s=60)
            # It was asked to shut down, while its disk was still there.
            assert file_in(image, "/boots") == b"up\n" * nr_boots
            assert is_clean(image)


# What an operator does once, then the first start by hand.
SET_UP = f"""\
set -e
lvcreate -qq -n web -L 32M lab
dd if=/out/root of=/dev/lab/web bs=1M status=none
cp /out/initrd /out/bridge.service /out/1.cfg build/debian/vmlinuz /etc/xenner
mv /etc/xenner/bridge.service /etc/systemd/system
systemctl enable --quiet xenner.target {UNIT} bridge.service
systemctl start bridge.service xenner.target
set +e
"""
# Stopped by hand at last, so that its disk can be looked at.
LOOK = f"""\
systemctl stop {UNIT} && e2fsck -fn /dev/lab/web >&2
debugfs -R 'cat /boots' /dev/lab/web >/out/boots
"""


# What KVM under TCG does to a guest now and then: docs/lab.md.
HAS_FAULTED = f"journalctl -q -u {UNIT} --grep 'triple fault' >&2"
SHOW = "journalctl -q -b -n 200 -o short-monotonic --no-hostname >&2"
# Nothing here takes so long, unless a processor does not come back from a
# guest: as tests/environments/runs.py has it.
STANDSTILL_S = 240
# ssh's own, when the connection ends before the command.
IS_CUT_OFF = 255


def _show(machine: Machine) -> None:
    """Its journal, beside a command that may not have ended."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run([*machine.ssh("-T"), SHOW], timeout=60)


def _does(machine: Machine, command: str) -> bool:
    """False: the emulator has not carried on, and has to be asked again."""
    try:
        status = machine.run(command, limit_s=STANDSTILL_S)
    except TimeLimitError as error:
        print(error)
        _show(machine)
        return False
    if status == 0:
        return True
    _show(machine)
    if status == IS_CUT_OFF:
        return False
    assert machine.run(HAS_FAULTED, limit_s=60) == 0, f"status {status}"
    return False


def _is_up_after_reboot(stage: Path, out: Path) -> bool:
    """False: as of _does()."""
    # Its packages are the host's only.
    from lab.machine import boot_machine

    with boot_machine(stage=stage, out=out) as machine:
        if not _does(machine, SET_UP + IS_UP):
            return False
        machine.reboot()
        return _does(machine, IS_UP) and _does(machine, LOOK)


def test_an_enabled_guest_is_up_after_a_reboot_of_the_machine(
    debian_kernel: Path, lab_root: Path, out: Path, tmp_path: Path
) -> None:
    from lab.stage import make_stage

    _make_guest(debian_kernel, tmp_path, out)
    (out / "bridge.service").write_text(BRIDGE)
    (out / "1.cfg").write_text(MACHINE_CONFIG)
    with make_stage() as stage:
        # The second machine knows nothing of the first.
        assert _is_up_after_reboot(stage, out) or _is_up_after_reboot(
            stage, out
        )
    assert (out / "boots").read_bytes() == b"up\nup\n"
