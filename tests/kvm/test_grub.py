# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's GRUB as a guest's kernel: it boots what the guest's own disk has.

GRUB's disk driver is of the oldest kind, without a single feature, and hands
the ring's channel and grants back before it starts the next kernel.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.kvm.ctl import Ctl
from tests.kvm.supervisor import open_xennerd
from tests.support.diskguest import file_in, is_clean, make_initrd, make_root
from tests.support.evtchnd import TOP
from tests.support.services import open_host

pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

_GRUB = TOP / "build/xen-utils/usr/lib/grub-xen/grub-x86_64-xen.bin"
_CONFIG = """\
set timeout=0
menuentry one {
  linux /boot/vmlinuz root=/dev/xvda console=hvc0 panic=-1 quiet
  initrd /boot/initrd
}
"""
# The first boot ends in another one.
_INIT = """\
#!/bin/sh
export PATH=/bin
echo boot >>/boots
sync
[ $(wc -l </boots) = 1 ] && reboot -f
mount -o remount,ro /
poweroff -f
"""


def _put(image: Path, files: dict[str, Path]) -> None:
    """Files into an ext4 that nobody has mounted."""
    script = "".join(f"write {path} {name}\n" for name, path in files.items())
    done = subprocess.run(
        ["debugfs", "-w", "-f", "-", image],
        input=f"mkdir /boot\nmkdir /boot/grub\n{script}",
        check=True,
        capture_output=True,
        text=True,
    )
    assert "No such file" not in done.stderr, done.stderr


def test_what_the_disk_has_is_booted(
    usable_kvm: None, debian_kernel: Path, tmp_path: Path
) -> None:
    if not _GRUB.exists():
        pytest.skip("packages: grub-xen-host is not unpacked")
    image = tmp_path / "root.img"
    image.touch()
    os.truncate(image, 128 << 20)
    make_root(tmp_path, image, init=_INIT)
    config = tmp_path / "grub.cfg"
    config.write_text(_CONFIG)
    initrd = make_initrd(tmp_path, debian_kernel)
    _put(
        image,
        {
            "/boot/grub/grub.cfg": config,
            "/boot/vmlinuz": debian_kernel,
            "/boot/initrd": initrd,
        },
    )
    file = tmp_path / "web.cfg"
    file.write_text(
        f"name='web'\nkernel='{_GRUB}'\nmemory=256\non_reboot='restart'\n"
        f"disk=['{image},raw,xvda,rw']\n"
    )
    with (
        open_host(tmp_path, debian_kernel, initrd) as host,
        open_xennerd(tmp_path) as xennerd,
    ):
        ctl = Ctl(host)
        ctl("create", str(file))
        # Each boot has GRUB at the disk, then Linux.
        xennerd.wait_for(
            lambda: (
                xennerd.log().count(": disconnected") >= 4
                and not ctl.has_guests()
            ),
            240,
        )
        assert xennerd.log().count(": connected") == 4
    assert file_in(image, "/boots") == b"boot\n" * 2
    assert is_clean(image)
