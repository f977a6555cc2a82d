# SPDX-License-Identifier: GPL-2.0-or-later
"""The two that are compared: xenner, and QEMU's emulator as its peer.

Both boot the same kernel and initramfs with the same memory and one vCPU.
"""

import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench.results import AbsentError
from demo.initramfs import make_initramfs

TOP = Path(__file__).resolve().parent.parent
KERNEL = TOP / "build/debian/vmlinuz"
MEMORY_MIB = 256
INIT_MARKER = b"XENNER-INIT"
IDLE_MARKER = b"XENNER-IDLE"
PEER_NAME = "qemu-tcg-microvm"
_PEER_CPU = {"tcg": "qemu64", "kvm": "host"}
# The lab takes a minute for a boot when it is not alone.
_LIMIT_S = 300.0


@dataclass(slots=True)
class Guest:
    """A running guest and its console."""

    process: subprocess.Popen[bytes]
    messages: IO[bytes]
    started_at: float
    console: bytes = b""

    def wait_for(self, text: bytes) -> float:
        """Seconds from exec until `text` was on the console."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        deadline = self.started_at + _LIMIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while text not in self.console:
                if not selector.select(deadline - time.monotonic()):
                    raise TimeoutError(f"no {text!r} in {_LIMIT_S:.0f} s")
                chunk = os.read(descriptor, 65536)
                if not chunk:
                    raise EOFError(
                        f"the guest ended before {text!r}:\n"
                        + self.console.decode(errors="replace")[-2000:]
                    )
                self.console += chunk
        return time.monotonic() - self.started_at

    def wait_end(self) -> str:
        """Read the console to its end; what was on standard error."""
        self.console += self.process.communicate(timeout=_LIMIT_S)[0]
        self.messages.seek(0)
        return self.messages.read().decode(errors="replace")


@contextmanager
def initramfs(payload: bytes | None = None) -> Iterator[Path]:
    """The demo's initramfs as a file, `payload` as its /bin/payload."""
    init = (TOP / "demo/init.sh").read_bytes()
    extra = {} if payload is None else {"bin/payload": payload}
    with tempfile.NamedTemporaryFile(prefix="xenner-bench.") as file:
        file.write(make_initramfs(init, extra))
        file.flush()
        yield Path(file.name)


def ours_command(initrd: Path, *, todo: str) -> list[str]:
    """xenner, statistics on its standard error."""
    if not os.access("/dev/kvm", os.W_OK):
        raise AbsentError("no usable /dev/kvm")
    program = Path(sys.executable).with_name("xenner")
    return [
        *(str(program), "-kernel", str(KERNEL), "-initrd", str(initrd)),
        *("-append", f"console=hvc0 panic=-1 demo.do={todo}"),
        *("-m", str(MEMORY_MIB), "-no-reboot", "-d", "stats"),
    ]


def tsc_khz(console: bytes) -> int:
    """What our guest's kernel said about this host's TSC; ValueError if not."""
    match = re.search(rb"tsc: Detected ([0-9]+)\.([0-9]{3}) MHz", console)
    if match is None:
        raise ValueError("our guest's console does not name the TSC's rate")
    return int(match[1] + match[2])


def peer_command(
    initrd: Path, *, todo: str, khz: int, accel: str = "tcg"
) -> list[str]:
    """QEMU with its emulator, or with `accel` "kvm". `khz`: the host's TSC.

    It is told to the peer's kernel, whose own calibration fails now and then
    under TCG; the boot then stands still for ever.
    """
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise AbsentError("qemu-system-x86_64 is not installed")
    # Shared memory, as ours is, so that it can be told from the rest.
    ram = f"memory-backend-memfd,id=ram,size={MEMORY_MIB}M,share=on"
    return [
        *(program, "-accel", accel, "-cpu", _PEER_CPU[accel]),
        *("-smp", "1", "-m", str(MEMORY_MIB)),
        *("-M", "microvm,isa-serial=on,memory-backend=ram"),
        *("-object", ram),
        *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
        *("-kernel", str(KERNEL), "-initrd", str(initrd)),
        "-append",
        f"console=ttyS0 reboot=t panic=-1 tsc_early_khz={khz} demo.do={todo}",
    ]


@contextmanager
def running(command: list[str]) -> Iterator[Guest]:
    """Start it; it is killed at the end if it still runs."""
    with tempfile.TemporaryFile() as errors:
        started_at = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            yield Guest(process, errors, started_at)
        finally:
            process.kill()
            process.communicate()


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of ours to its power-off."""

    init_s: float
    console: bytes
    statistics: dict[str, Any]


def run_ours(initrd: Path, *, todo: str) -> Boot:
    """Boot and wait for the end; ValueError if there were no statistics."""
    with running(ours_command(initrd, todo=todo)) as guest:
        init_s = guest.wait_for(INIT_MARKER)
        messages = guest.wait_end()
    return Boot(init_s, guest.console, parse_statistics(messages))


def parse_statistics(text: str) -> dict[str, Any]:
    """The last JSON line of `-d stats`; ValueError if there is none."""
    lines = re.findall(r"^\{.*\}$", text, re.MULTILINE)
    if not lines:
        raise ValueError(f"xenner printed no statistics: {text[-500:]}")
    statistics: dict[str, Any] = json.loads(lines[-1])
    return statistics
