# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with its root on a disk reboots, crashes and ends: a new domain each
time, and always the same disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kvm.ctl import Ctl
from tests.kvm.supervisor import open_xennerd
from tests.support.diskguest import (
    file_in,
    is_clean,
    make_initrd,
    make_root,
)
from tests.support.services import open_host

pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

# The first boot ends in another one, the second in a crash, with what it has
# written last on the disk and not in the file system's own places.
_INIT = """\
#!/bin/sh
export PATH=/bin
echo boot >>/boots
sync
case $(wc -l </boots) in
1) reboot -f ;;
2) echo c >/proc/sysrq-trigger ;;
esac
mount -o remount,ro /
poweroff -f
"""


def test_reboot_crash_and_poweroff(
    usable_kvm: None, debian_kernel: Path, tmp_path: Path
) -> None:
    image = tmp_path / "root.img"
    image.touch()
    os.truncate(image, 64 << 20)
    make_root(tmp_path, image, init=_INIT)
    initrd = make_initrd(tmp_path, debian_kernel)
    file = tmp_path / "web.cfg"
    # SCSI's name, and a partition without its disk: xvda1 in the guest.
    file.write_text(
        f"name='web'\nkernel='{debian_kernel}'\nramdisk='{initrd}'\n"
        "memory=192\nextra='console=hvc0 panic=-1 quiet root=/dev/xvda1'\n"
        "on_reboot='restart'\non_crash='restart'\n"
        f"disk=['{image},raw,sda1,rw']\n"
    )
    with (
        open_host(tmp_path, debian_kernel, initrd) as host,
        open_xennerd(tmp_path) as xennerd,
    ):
        ctl = Ctl(host)
        ctl("create", str(file))
        # Between two boots there may be no domain for a moment.
        xennerd.wait_for(
            lambda: (
                xennerd.log().count(": disconnected") >= 3
                and not ctl.has_guests()
            ),
            240,
        )
        assert xennerd.log().count(": connected") == 3
    assert file_in(image, "/boots") == b"boot\n" * 3
    assert is_clean(image)
