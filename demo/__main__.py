# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: a shell in the guest, or a scripted session."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from demo.initramfs import make_initramfs
from xenner.errors import HostError
from xennerd.vm.kvm.machine import Kvm

TOP = Path(__file__).resolve().parent.parent
KERNEL = TOP / "build/debian/vmlinuz"
MEMORY_MIB = 256
_MARKER = b"XENNER-INIT"
_END = b"== end"
# A guest that has not powered off by then never will.
_LIMIT_S = 300


class DemoError(Exception):
    """The demo did not do what it shows; str() is the line for the person."""


@dataclass(frozen=True, slots=True)
class Times:
    """When things were seen on the console, in seconds from the start."""

    init_s: float | None
    is_whole: bool


def command(initrd: Path, *, todo: str) -> list[str]:
    """How to boot the demo's guest under xenner."""
    return [
        str(Path(sys.executable).with_name("xenner")),
        "-kernel",
        str(KERNEL),
        "-initrd",
        str(initrd),
        "-append",
        f"console=hvc0 panic=-1 demo.do={todo}",
        "-m",
        str(MEMORY_MIB),
        "-no-reboot",
    ]


def copy_console(console: IO[bytes], started_at: float) -> Times:
    """Show the guest's console and note when init's first line came."""
    init_s: float | None = None
    is_whole = False
    for line in console:
        if init_s is None and line.startswith(_MARKER):
            init_s = time.monotonic() - started_at
        is_whole = is_whole or line.startswith(_END)
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    return Times(init_s, is_whole)


def read_statistics(text: str) -> int:
    """The number of traps from the JSON line of `-d stats`."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return int(json.loads(line)["traps"])
    raise DemoError("xenner printed no statistics")


def run_script(initrd: Path) -> str:
    """The scripted session; returns the demo's last line."""
    with tempfile.TemporaryFile("w+") as errors:
        started_at = time.monotonic()
        process = subprocess.Popen(
            [*command(initrd, todo="script"), "-d", "stats"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        limit = threading.Timer(_LIMIT_S, process.kill)
        limit.start()
        assert process.stdout is not None
        times = copy_console(process.stdout, started_at)
        status = process.wait()
        limit.cancel()
        errors.seek(0)
        text = errors.read()
    if status != 0:
        sys.stderr.write(text)
        raise DemoError(f"xenner ended with status {status}")
    if times.init_s is None or not times.is_whole:
        sys.stderr.write(text)
        raise DemoError("the guest powered off before its script was done")
    traps = read_statistics(text)
    return f"demo: ok boot={times.init_s:.2f} traps={traps}"


def kvm_problem() -> str | None:
    """Why /dev/kvm cannot be used, or None."""
    try:
        with Kvm():
            return None
    except HostError as error:
        return str(error)


def run_in_lab(problem: str) -> int:
    """The same demo on a KVM that QEMU emulates."""
    print(
        f"demo: {problem}: this runs in the lab machine, an emulated one, "
        "many times slower",
        file=sys.stderr,
    )
    lab = [sys.executable, "-m", "lab"]
    # Not this Python: the lab has its own.
    demo = "python3 -m demo"
    if os.isatty(0):
        return subprocess.run([*lab, "shell", "--", demo]).returncode
    return subprocess.run([*lab, "run", "--", demo]).returncode


def main() -> int:
    problem = kvm_problem()
    # In the lab itself there is nowhere further to go.
    if problem is not None and "XENNER_PLACE" not in os.environ:
        return run_in_lab(problem)
    init = (TOP / "demo/init.sh").read_bytes()
    with tempfile.NamedTemporaryFile(prefix="xenner-demo.") as initrd:
        initrd.write(make_initramfs(init, {}))
        initrd.flush()
        path = Path(initrd.name)
        if os.isatty(0):
            return subprocess.run(command(path, todo="shell")).returncode
        try:
            print(run_script(path))
        except DemoError as error:
            print(f"demo: failed: {error}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
