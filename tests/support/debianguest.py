# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest whose root on xvda is Debian's, made by mmdebstrap: the lab's.

systemd is its init, and starts a shell on the console that tests type to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.root import find_root

# The shell is all that is wanted of systemd, and what each unit needs. To look
# at all devices once more takes seconds.
CMDLINE = (
    "root=/dev/xvda systemd.unit=test-shell.service "
    "systemd.mask=systemd-udev-trigger.service systemd.show_status=0 quiet"
)
_SHELL = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin PS1=
stty -echo
# What the kernel has to say of errors is not for this terminal.
dmesg -n 1
echo XENNER-INIT
exec sh
"""
_UNIT = """\
[Unit]
Description=A shell on the console
Wants=basic.target
After=basic.target
[Service]
ExecStart=/run/test-shell
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/hvc0
SendSIGHUP=yes
"""

FILES = {
    "test-shell": _SHELL.encode(),
    "systemd/system/test-shell.service": _UNIT.encode(),
}
"""What the initramfs lays below /run."""


def make_debian_root(device: Path) -> None:
    """An ext4 with all of it that fills `device`, a file or block device."""
    if os.geteuid() != 0:
        pytest.skip("root: Debian's files belong to it")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("packages: mmdebstrap is not installed")
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-d", find_root(), device],
        check=True,
    )
