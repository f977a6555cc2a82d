# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU process that is the lab machine."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from lab.emulator import find_qemu
from lab.errors import LabError
from lab.image import Image

MEMORY_MIB = 2560
_CONSOLE = "console=ttyS0 "
_KERNEL_ARGUMENTS = (
    # A panic ends the machine (with -no-reboot), and with it the run.
    "panic=1 net.ifnames=0 "
    # Emulated faster without; nothing here is protected by them.
    "mitigations=off nokaslr audit=0 "
    # TCG's TSC is the host's clock; without these the kernel takes the HPET.
    "tsc=reliable clocksource=tsc "
    "random.trust_cpu=1 systemd.show_status=0 quiet"
)
# Of Xen; its domain 0's console goes through its own. Nothing is protected here
# either. eager-fpu: QEMU's XSAVE and XRSTOR raise no #NM while CR0.TS is set
# (target/i386/tcg/translate.c), so with Xen's lazy switches one process saves
# another's registers.
_XEN_ARGUMENTS = (
    "console=com1 com1=115200 dom0_mem=1280M,max:1280M noreboot "
    "xpti=off spec-ctrl=no,eager-fpu"
)
_DOM0_CONSOLE = "console=hvc0 "
# What a monitor's end is to its client.
_GONE = (QMPError, OSError, EOFError)
# For initramfs.sh.
_OVERLAY_ARGUMENT = " lab.overlay=disk"


@dataclass(frozen=True, slots=True)
class Parts:
    """What one lab machine is made of."""

    image: Image
    directory: Path
    """Its disk2.raw is the volume group's; the console's text and QEMU's
    messages go there."""
    stage: Path
    out: Path
    overlay: Path | None = None
    """A disk for what the machine changes. Such a one can be rebooted; others
    change memory, and end."""
    hypervisor: Path | None = None
    """Xen, which is booted with Linux as its domain 0."""


@contextmanager
def start_qemu(
    parts: Parts, *options: str
) -> Iterator[tuple[subprocess.Popen[bytes], QEMUMonitorProtocol]]:
    """A machine that was started, and its monitor. It ends with the block.

    Raises LabError, with QEMU's words, if it does not start.
    """
    directory = parts.directory
    ours, theirs = socket.socketpair()
    log = (directory / "qemu.log").open("wb")
    (directory / "console").touch()
    with log, ours, theirs:
        process = subprocess.Popen(
            [
                *_qemu_command(parts),
                *("-chardev", f"socket,id=qmp,fd={theirs.fileno()}"),
                *("-mon", "chardev=qmp,mode=control"),
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        try:
            with _open_monitor(ours, directory / "qemu.log") as monitor:
                yield process, monitor
        finally:
            process.kill()
            process.wait()


@contextmanager
def _open_monitor(
    sock: socket.socket, log: Path
) -> Iterator[QEMUMonitorProtocol]:
    """It takes the thread's event loop, or makes one that nobody closes."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        monitor = QEMUMonitorProtocol(sock)
        try:
            monitor.connect()
        except _GONE as error:
            text = log.read_text(errors="replace")
            raise LabError(f"QEMU did not start\n{text}") from error
        try:
            yield monitor
        finally:
            with suppress(*_GONE):
                monitor.close()
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _qemu_command(parts: Parts) -> list[str]:
    virtfs = "security_model=none"
    return [
        # Nothing of the lab outlives the one who started it.
        *("setpriv", "--pdeathsig", "KILL"),
        *find_qemu().command,
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-smp", "2", "-m", str(MEMORY_MIB)),
        *_boot(parts),
        *("-serial", f"file:{parts.directory}/console"),
        *_disk("disk", f"{parts.image.disk},readonly=on"),
        *_disk("disk2", f"{parts.directory}/disk2.raw,discard=unmap"),
        *(_disk("overlay", str(parts.overlay)) if parts.overlay else ()),
        *("-device", "virtio-rng-pci"),
        *("-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *(
            "-virtfs",
            f"local,path={parts.stage},mount_tag=stage,readonly=on,{virtfs}",
        ),
        *("-virtfs", f"local,path={parts.out},mount_tag=out,{virtfs}"),
    ]


def _boot(parts: Parts) -> Sequence[str]:
    image, kept = parts.image, parts.overlay is not None
    arguments = _KERNEL_ARGUMENTS + (_OVERLAY_ARGUMENT if kept else "")
    ends = () if kept else ("-no-reboot",)
    if parts.hypervisor is None:
        return (
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", _CONSOLE + arguments, *ends),
        )
    # Multiboot: modules with their arguments, a comma between two of them.
    linux = f"{image.kernel} {_DOM0_CONSOLE}{arguments}"
    modules = [text.replace(",", ",,") for text in (linux, str(image.initrd))]
    return (
        *("-kernel", str(parts.hypervisor), "-append", _XEN_ARGUMENTS),
        *("-initrd", ",".join(modules), *ends),
    )


def _disk(name: str, file: str) -> Sequence[str]:
    drive = f"if=none,format=raw,cache=unsafe,id={name},file={file}"
    return ("-drive", drive, "-device", f"virtio-blk-pci,drive={name}")
