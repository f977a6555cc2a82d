# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/console: what a short line costs that a guest writes to its console.

A program writes line after line, a write(2) each, and we read the other end of
the console's pty; the time is the reader's. Beside it the same program writes
the same lines to a pty inside the guest, read by a process there: the guest's
system calls and its tty layer without anything of ours. QEMU's console is its
serial port.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.guests import statistics_of
from bench.machines import (
    PEER_NAME,
    TOP,
    Guest,
    initramfs,
    ours_command,
    peer_command,
    run_ours,
    running,
    tsc_khz,
)
from bench.results import Result, in_turn, median, result_from_lab

_BENCH = "console"
_LINES = 20_000
_LAB_LINES = 500
_LIMIT_S = 300.0
_BEGIN, _END = b"LINES-BEGIN", b"LINES-END"
_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Lines:
    """Microseconds a line: the reader's clock, the processor time of the
    process that runs the guest and of all but its vCPU, and what the guest
    measured by itself."""

    line_us: float
    processor_us: float
    beside_us: float
    null_us: float
    pty_us: float
    counters: Mapping[str, float]


def lines() -> Result:
    """Against a pty in the same guest."""
    found: list[Lines] = []
    with initramfs(_program(_LINES)) as initrd:
        # Not measured: who asks for the counters disturbs the lines.
        counters = _ours(initrd, _LINES, with_counters=True).counters
        found += [_ours(initrd, _LINES) for _ in range(3)]
    return Result(
        _BENCH,
        "lines",
        median([one.line_us for one in found]),
        median([one.pty_us for one in found]),
        "pty in the guest",
        "us/line",
        "lower",
        {**_details(found), "counters_per_line": counters},
    )


def tcg() -> Result:
    """Against QEMU's emulator, whose console is a serial port."""
    return _against_peer(
        "tcg", PEER_NAME, accel="tcg", nr_lines=_LINES, rounds=3
    )


def lab_kvm() -> Result:
    """Against QEMU/KVM, where KVM is the hardware kind: in the lab machine,
    which emulates the hardware."""
    if not _is_lab():
        _program(_LAB_LINES)
        return result_from_lab(f"{_BENCH}/lab-kvm")
    # Boots take minutes there, and the counters say most.
    return _against_peer(
        "lab-kvm",
        "qemu-kvm-microvm",
        accel="kvm",
        nr_lines=_LAB_LINES,
        rounds=1,
    )


def _against_peer(
    case: str, peer_name: str, *, accel: str, nr_lines: int, rounds: int
) -> Result:
    found: list[Lines] = []
    peers: list[Lines] = []

    def ours() -> float:
        found.append(_ours(initrd, nr_lines))
        return found[-1].line_us

    def peer() -> float:
        command = peer_command(initrd, todo="run", khz=khz, accel=accel)
        with _console_of([*command, "-serial", "pty"]) as (guest, terminal):
            peers.append(_measure(guest, terminal, nr_lines))
        return peers[-1].line_us

    with initramfs(_program(nr_lines)) as initrd:
        khz = tsc_khz(run_ours(initrd, todo="poweroff").console)
        counters = _ours(initrd, nr_lines, with_counters=True).counters
        ours_us, peer_us = in_turn(ours, peer, rounds=rounds)
    return Result(
        _BENCH,
        case,
        median(ours_us),
        median(peer_us),
        peer_name,
        "us/line",
        "lower",
        {
            **_details(found),
            "peer_processor_us": _median(peers, "processor_us"),
            "peer_null_us": _median(peers, "null_us"),
            "peer_pty_us": _median(peers, "pty_us"),
            "counters_per_line": counters,
        },
    )


def _details(found: list[Lines]) -> dict[str, float]:
    names = ("processor_us", "beside_us", "null_us", "pty_us")
    return {name: _median(found, name) for name in names}


def _median(found: list[Lines], name: str) -> float:
    return round(median([getattr(one, name) for one in found]), 3)


def _program(nr_lines: int) -> bytes:
    """Made on the host: there is no compiler in the lab."""
    program = TOP / f"build/tests/console-{nr_lines}"
    if not _is_lab():
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                *("cc", "-O2", "-static", f"-DLINES={nr_lines}"),
                *("-o", program, TOP / "bench/console.c"),
            ],
            check=True,
        )
    return program.read_bytes()


def _is_lab() -> bool:
    return os.environ.get("XENNER_PLACE") == "machine"


def _ours(initrd: Path, nr_lines: int, *, with_counters: bool = False) -> Lines:
    with tempfile.TemporaryDirectory(prefix="xenner-bench.") as name:
        monitor = Path(name) / "monitor"
        command = [
            *ours_command(initrd, todo="run"),
            *("-serial", "pty", "-monitor", f"unix:{monitor}"),
        ]
        with _console_of(command) as (guest, terminal):
            return _measure(
                guest,
                terminal,
                nr_lines,
                counters=(lambda: _counters(monitor))
                if with_counters
                else dict,
            )


def _counters(monitor: Path) -> dict[str, float]:
    statistics = statistics_of(monitor)
    vcpu, kvm = statistics["vcpus"][0], statistics["kvm_vcpus"][0]
    return {
        "hypercalls": sum(vcpu["hypercalls"].values()),
        "traps": sum(vcpu["traps"].values()),
        "exits": kvm.get("exits", 0),
        "emulated": kvm.get("insn_emulation", 0),
    }


@contextmanager
def _console_of(command: list[str]) -> Iterator[tuple[Guest, int]]:
    """A guest and our end of its console."""
    with running(command) as guest:
        terminal = os.open(_terminal_of(guest), os.O_RDWR | os.O_NOCTTY)
        try:
            yield guest, terminal
        finally:
            os.close(terminal)


def _terminal_of(guest: Guest) -> str:
    """Ours says it on standard error, QEMU on standard output."""
    assert guest.process.stdout is not None
    os.set_blocking(guest.process.stdout.fileno(), False)
    said = b""
    while guest.process.poll() is None:
        said += guest.process.stdout.read() or b""
        # Not by the position that we share with who writes there.
        errors = os.pread(guest.messages.fileno(), 1 << 16, 0)
        match = re.search(rb"redirected to (\S+)[ \n]", said + errors)
        if match is not None:
            return match[1].decode()
        time.sleep(0.01)
    raise EOFError("the guest ended without a console")


def _measure(
    guest: Guest,
    terminal: int,
    nr_lines: int,
    *,
    counters: Callable[[], dict[str, float]] = dict,
) -> Lines:
    said = _read_until(terminal, _BEGIN)
    began_s, used, counted = (
        time.monotonic(),
        _processor_s(guest.process.pid),
        counters(),
    )
    _read_until(terminal, _END)
    took_s = time.monotonic() - began_s
    used = [
        after - before
        for after, before in zip(
            _processor_s(guest.process.pid), used, strict=True
        )
    ]
    match = re.search(rb"LINES-TIMES null ([0-9.]+) pty ([0-9.]+)", said)
    assert match is not None, said[-500:]
    return Lines(
        line_us=took_s / nr_lines * 1e6,
        processor_us=used[0] / nr_lines * 1e6,
        beside_us=used[1] / nr_lines * 1e6,
        null_us=float(match[1]),
        pty_us=float(match[2]),
        counters={
            name: round((value - counted[name]) / nr_lines, 3)
            for name, value in counters().items()
        },
    )


def _read_until(terminal: int, text: bytes) -> bytes:
    """The end of what was read up to there."""
    said = b""
    deadline = time.monotonic() + _LIMIT_S
    while text not in said:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {text!r} in {_LIMIT_S:.0f} s")
        said = said[-1000:] + os.read(terminal, 65536)
    return said


def _processor_s(pid: int) -> list[float]:
    """Of all threads, and of those that are no vCPU: proc_pid_stat(5)."""
    both = [0.0, 0.0]
    for task in Path(f"/proc/{pid}/task").iterdir():
        name, _, rest = (task / "stat").read_text().rpartition(")")
        user, system = rest.split()[11:13]
        used_s = (int(user) + int(system)) / _HZ
        both[0] += used_s
        # vcpu0 is ours, CPU 0/KVM and CPU 0/TCG are QEMU's.
        if not re.search(r"\((vcpu|CPU )", name):
            both[1] += used_s
    return both


CASES: Mapping[str, Callable[[], Result]] = {
    "lines": lines,
    "tcg": tcg,
    "lab-kvm": lab_kvm,
}
