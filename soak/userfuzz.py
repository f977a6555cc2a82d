# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest whose user means it harm (tests/fuzz): it is alive at the end."""

import re
import tempfile
import time
from pathlib import Path

from demo.initramfs import make_initramfs
from soak.results import Result, in_lab
from soak.running import Ended, command, explain, run_guest
from tests.environments import programs

PART = "user-fuzz"
KERNEL = programs.TOP / "build/debian/vmlinuz"
# Everything that the kernel says about itself is to end it, and so be seen.
_CMDLINE = "console=hvc0 quiet panic=-1 oops=panic softlockup_panic=1"
INIT = """\
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
for word in $(cat /proc/cmdline); do
    case $word in
    fuzz.*) set -- "$@" "${word#fuzz.}" ;;
    esac
done
fuzz "$@"
poweroff -f
"""
_END = re.compile(r"fuzz: end, ([0-9]+) rounds, ([0-9]+) attempts")


def run_fuzz(
    *words: str, most_s: float, options: tuple[str, ...] = ()
) -> Ended:
    """Boot Debian's kernel with the fuzzer as all that it runs."""
    program = programs.fuzz()
    with tempfile.NamedTemporaryFile(prefix="soak.") as initrd:
        initrd.write(
            make_initramfs(INIT.encode(), {"bin/fuzz": program.read_bytes()})
        )
        initrd.flush()
        append = " ".join([_CMDLINE, *(f"fuzz.{word}" for word in words)])
        return run_guest(
            command(
                KERNEL, "-initrd", Path(initrd.name), "-m", "256",
                "-no-reboot", "-append", append, *options,
            ),
            most_s=most_s,
            name=PART,
        )  # fmt: skip


def judge(ended: Ended) -> tuple[str, int]:
    """The outcome, and how many attempts were made."""
    match = next(filter(None, map(_END.search, reversed(ended.lines))), None)
    if ended.status == 0 and match and not ended.wrong():
        return "ok", int(match[2])
    rounds = [line for line in ended.lines if line.startswith("fuzz: ")]
    last = rounds[-1].removeprefix("fuzz: ") if rounds else "nothing"
    why = ended.wrong() or (
        "no end" if ended.was_ended else f"status {ended.status}"
    )
    return f"{why}, after {last}", 0


def _run(case: str, minutes: float, *, nr_vcpus: int) -> Result:
    seed = int(time.time()) % 100000
    seconds = minutes * 60
    ended = run_fuzz(
        *(f"seed={seed}", f"seconds={seconds:.0f}", f"jobs={nr_vcpus}"),
        f"at={programs.emu_address('ring0_call_insn'):#x}",
        most_s=seconds + 600,
        options=("-smp", str(nr_vcpus)),
    )
    outcome, attempts = judge(ended)
    if outcome != "ok":
        explain(ended)
    return Result(
        PART, case, ended.seconds, attempts, "attempts", outcome,
        {"seed": seed},
    )  # fmt: skip


def on_host(minutes: float) -> Result:
    return _run("host", minutes, nr_vcpus=1)


def with_two_vcpus(minutes: float) -> Result:
    return _run("smp", minutes, nr_vcpus=2)


def in_machine(minutes: float) -> Result:
    return in_lab(f"{PART}/host", minutes)
