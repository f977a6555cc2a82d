# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/boot: Debian's kernel to init, start-up, memory, a CPU-bound loop."""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.machines import (
    IDLE_MARKER,
    INIT_MARKER,
    MEMORY_MIB,
    PEER_NAME,
    TOP,
    initramfs,
    ours_command,
    peer_command,
    run_ours,
    running,
    tsc_khz,
)
from bench.results import Result, in_turn, median, result_from_lab

_BENCH = "boot"
_LOOP = b"LOOP-"


def tcg() -> Result:
    """Wall time from exec to the first line of init."""
    statistics: list[dict[str, Any]] = []

    def ours() -> float:
        boot = run_ours(initrd, todo="poweroff")
        statistics.append(boot.statistics)
        return boot.init_s

    with initramfs() as initrd:
        # The first boot may find the kernel packed and the files cold.
        first = run_ours(initrd, todo="poweroff")
        khz = tsc_khz(first.console)
        ours_s, peer_s = in_turn(
            ours, lambda: peer_boot_s(initrd, khz=khz), rounds=5
        )
    last = statistics[-1]
    return Result(
        _BENCH,
        "tcg",
        median(ours_s),
        median(peer_s),
        PEER_NAME,
        "s",
        "lower",
        {
            "kvm": last["kvm"],
            "ours_first_s": round(first.init_s, 3),
            "ours_all_s": [round(value, 3) for value in ours_s],
            "peer_all_s": [round(value, 3) for value in peer_s],
            "traps": last["traps"],
            "exits_to_userspace": last["exits_to_userspace"],
            "counters": last["vcpus"],
            "kvm_counters": last.get("kvm_vcpus"),
        },
    )


def peer_boot_s(initrd: Path, *, khz: int) -> float:
    with running(peer_serial(initrd, todo="poweroff", khz=khz)) as guest:
        return guest.wait_for(INIT_MARKER)


def lab_kvm() -> Result:
    """The same against QEMU/KVM, where KVM is the hardware kind: in the lab
    machine, which emulates the hardware."""
    if os.environ.get("XENNER_PLACE") != "machine":
        return result_from_lab(f"{_BENCH}/lab-kvm")

    def peer() -> float:
        command = peer_serial(initrd, todo="poweroff", khz=khz, accel="kvm")
        with running(command) as guest:
            return guest.wait_for(INIT_MARKER)

    with initramfs() as initrd:
        khz = tsc_khz(run_ours(initrd, todo="poweroff").console)
        ours_s, peer_s = in_turn(
            lambda: run_ours(initrd, todo="poweroff").init_s, peer, rounds=3
        )
    return Result(
        _BENCH,
        "lab-kvm",
        median(ours_s),
        median(peer_s),
        "qemu-kvm-microvm",
        "s",
        "lower",
        {
            "ours_all_s": [round(value, 3) for value in ours_s],
            "peer_all_s": [round(value, 3) for value in peer_s],
        },
    )


def startup() -> Result:
    """From exec until the guest runs: how long `-daemonize` takes.

    Both programs return from it when their machine is about to run its first
    instruction, so neither has to be believed.
    """

    def ours() -> float:
        command = ours_command(initrd, todo="idle")
        return daemonized([*command, "-serial", "null"])

    with initramfs() as initrd:
        ours()
        ours_s, peer_s = in_turn(
            ours, lambda: daemonized_peer(initrd), rounds=7
        )
        says_s = run_ours(initrd, todo="poweroff").statistics["startup_s"]
    return Result(
        _BENCH,
        "startup",
        median(ours_s),
        median(peer_s),
        PEER_NAME,
        "s",
        "lower",
        {"ours_says_s": says_s},
    )


def daemonized_peer(initrd: Path) -> float:
    """The peer's part of startup()."""
    command = peer_command(initrd, todo="idle", khz=0)
    # -nographic and -daemonize exclude each other in QEMU.
    command = [word for word in command if word != "-nographic"]
    return daemonized([*command, "-display", "none", "-serial", "null"])


def daemonized(command: list[str]) -> float:
    """How long the program takes to go to the background. It is ended."""
    with tempfile.TemporaryDirectory(prefix="xenner-bench.") as name:
        pidfile = Path(name) / "pid"
        started_at = time.monotonic()
        subprocess.run(
            [*command, "-daemonize", "-pidfile", str(pidfile)],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
        took_s = time.monotonic() - started_at
        end(int(pidfile.read_text()))
    return took_s


def end(pid: int) -> None:
    """Kill a daemon and wait until it is gone."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not select.select([pidfd], [], [], 10)[0]:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


def peer_serial(
    initrd: Path, *, todo: str, khz: int, accel: str = "tcg"
) -> list[str]:
    """The peer with its console on standard output."""
    command = peer_command(initrd, todo=todo, khz=khz, accel=accel)
    return [*command, "-serial", "stdio"]


def pss() -> Result:
    """Memory of the process beyond the guest's own, guest idle."""

    def ours() -> float:
        with running(ours_command(initrd, todo="idle")) as guest:
            guest.wait_for(IDLE_MARKER)
            return pss_beyond(guest.process.pid)

    def peer() -> float:
        with running(peer_serial(initrd, todo="idle", khz=khz)) as guest:
            guest.wait_for(IDLE_MARKER)
            return pss_beyond(guest.process.pid)

    with initramfs() as initrd:
        khz = tsc_khz(run_ours(initrd, todo="poweroff").console)
        ours_mib, peer_mib = in_turn(ours, peer, rounds=3)
    return Result(
        _BENCH,
        "pss",
        median(ours_mib),
        median(peer_mib),
        PEER_NAME,
        "MiB",
        "lower",
        {"includes": "the peer's translated code, which ours does not have"},
    )


def pss_beyond(pid: int) -> float:
    """MiB of a process's Pss outside the guest's memory.

    From /proc/PID/smaps (proc(5)): the guest's memory is what is mapped
    shared and is as large as the guest. ValueError where there is none: then
    it would be counted.
    """
    total_kib = 0
    is_guest = has_guest = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, second, *_ = line.split()
        if not first.endswith(":"):
            low, high = (int(word, 16) for word in first.split("-"))
            is_large = high - low >= MEMORY_MIB << 20
            is_guest = is_large and second.startswith("rw-s")
            has_guest = has_guest or is_guest
        elif first == "Pss:" and not is_guest:
            total_kib += int(second)
    if not has_guest:
        raise ValueError(f"process {pid} has no guest memory")
    return total_kib / 1024


def cpuloop() -> Result:
    """Loops per second inside the guest and on the host, by one clock."""
    with tempfile.TemporaryDirectory(prefix="xenner-bench.") as name:
        program = Path(name) / "cpuloop"
        subprocess.run(
            ["cc", "-O2", "-static", "-o", program, TOP / "bench/cpuloop.c"],
            check=True,
        )

        def ours() -> float:
            return loops_per_second(ours_command(initrd, todo="run"))

        def peer() -> float:
            return loops_per_second([str(program)])

        # Many short rounds: what else the machine does comes and goes within
        # seconds, and then spoils few of them.
        with initramfs(program.read_bytes()) as initrd:
            ours_rate, peer_rate = in_turn(ours, peer, rounds=15)
    return Result(
        _BENCH,
        "cpuloop",
        median(ours_rate),
        median(peer_rate),
        "host",
        "loops/s",
        "higher",
        {"ours_all": ours_rate, "peer_all": peer_rate},
    )


def loops_per_second(command: list[str]) -> float:
    """The program's loop, timed between its two lines by our clock."""
    with running(command) as guest:
        began_s = guest.wait_for(_LOOP + b"BEGIN")
        ended_s = guest.wait_for(_LOOP + b"END")
    loops = int(guest.console.split(_LOOP + b"BEGIN ")[1].split()[0])
    return loops / (ended_s - began_s)


CASES: Mapping[str, Callable[[], Result]] = {
    "tcg": tcg,
    "lab-kvm": lab_kvm,
    "startup": startup,
    "pss": pss,
    "cpuloop": cpuloop,
}
