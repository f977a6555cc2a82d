# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel with two vCPUs, boot after boot and two at a time: what a
KVM loses now and then is seen here, and nowhere else."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from demo.initramfs import make_initramfs
from soak.results import Result, in_lab
from soak.running import Ended, command, explain, run_guest
from soak.userfuzz import KERNEL
from tests.environments.rules import limit_s

PART = "boots"
_AT_A_TIME = 2
_VCPUS = 2
_MOST_S = limit_s(60)
_UP = "soak: up with 2"
_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo soak: up with $(/bin/busybox grep -c ^processor /proc/cpuinfo)
/bin/busybox poweroff -f
"""


def wrong(ended: Ended) -> str:
    """What was not as it should be with a boot, or nothing."""
    if ended.wrong():
        return ended.wrong()
    if ended.was_ended:
        return "no end"
    if ended.status:
        return f"status {ended.status}"
    return "" if _UP in ended.lines else "init has not run on both"


def _boot(initrd: Path) -> Ended:
    return run_guest(
        command(
            KERNEL, "-initrd", initrd, "-m", "200", "-smp", str(_VCPUS),
            "-no-reboot", "-append", "console=hvc0 quiet panic=-1",
        ),
        most_s=_MOST_S,
        name=PART,
    )  # fmt: skip


def on_host(minutes: float) -> Result:
    """Boots in turn until the time is over, or something is wrong."""
    began = time.monotonic()
    nr_boots = 0
    outcome = ""
    with (
        tempfile.NamedTemporaryFile(prefix="soak.") as file,
        ThreadPoolExecutor(_AT_A_TIME) as pool,
    ):
        file.write(make_initramfs(_INIT.encode(), {}))
        file.flush()
        while not outcome and time.monotonic() - began < minutes * 60:
            for ended in pool.map(_boot, [Path(file.name)] * _AT_A_TIME):
                if reason := wrong(ended):
                    outcome = f"{reason}, boot {nr_boots + 1}"
                    explain(ended)
                nr_boots += 1
    seconds = time.monotonic() - began
    return Result(
        PART, "host", seconds, nr_boots, "boots", outcome or "ok"
    )  # fmt: skip


def in_machine(minutes: float) -> Result:
    return in_lab(f"{PART}/host", minutes)
