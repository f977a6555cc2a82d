# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/evtchn: a notification to another process or a guest, and back."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.guests import DOMID, running_guest
from bench.results import AbsentError, Result, in_turn, median

_TOP = Path(__file__).resolve().parent.parent
_SOURCE = _TOP / "bench/evtchn_roundtrip.c"
_LIBS = _TOP / "build/meson/libs"
_GUEST_SOURCE = _TOP / "bench/evtchn_guest.c"
_NR_TRIPS = 20_000
_NR_GUEST_TRIPS = 5_000
_ROUNDS = 9
_LIMIT_S = 60.0


def eventfd_roundtrip() -> Result:
    """Notify to wake and back through libxenevtchn, against two eventfds.

    Neither way has evtchnd in it: it is asked once, for the channel.
    """
    require_library()
    with tempfile.TemporaryDirectory(prefix="xenner-bench.") as name:
        directory = Path(name)
        program = build_program(directory, _SOURCE)
        with running_evtchnd(directory):
            ours_us, peer_us = in_turn(
                lambda: trip_us(program, "library", directory),
                lambda: trip_us(program, "eventfd", directory),
                rounds=_ROUNDS,
            )
    return Result(
        "evtchn",
        "eventfd-roundtrip",
        median(ours_us),
        median(peer_us),
        "eventfd",
        "us",
        "lower",
        {
            "nr_trips": _NR_TRIPS,
            "ours_all_us": ours_us,
            "peer_all_us": peer_us,
            # Both sides of a round meet the same noise.
            "median_of_ratios": round(
                median([a / b for a, b in zip(ours_us, peer_us, strict=True)]),
                4,
            ),
        },
    )


def guest_roundtrip() -> Result:
    """Event to a guest that does nothing but answer, and back.

    The peer are two eventfds between two processes. What emu and KVM had to
    do for it is counted over all trips.
    """
    require_library()
    with tempfile.TemporaryDirectory(
        prefix="xenner-bench.", dir="/dev/shm"
    ) as name:
        directory = Path(name)
        peer = build_program(directory, _SOURCE)
        program = build_program(directory, _GUEST_SOURCE)
        with (
            running_evtchnd(directory),
            running_guest(directory, "echo") as guest,
        ):
            port = guest.wait_line("port")[1]
            before = guest.statistics()

            def ours_us() -> float:
                return run_us(
                    directory, program, str(DOMID), port, str(_NR_GUEST_TRIPS)
                )

            ours, peers = in_turn(
                ours_us,
                lambda: trip_us(peer, "eventfd", directory),
                rounds=_ROUNDS,
            )
            after = guest.statistics()
    nr_trips = _NR_GUEST_TRIPS * _ROUNDS
    return Result(
        "evtchn",
        "guest-roundtrip",
        median(ours),
        median(peers),
        "eventfd",
        "us",
        "lower",
        {
            "nr_trips": nr_trips,
            "ours_all_us": ours,
            "peer_all_us": peers,
            "per_trip": per_trip(before, after, nr_trips),
        },
    )


def per_trip(
    before: dict[str, Any], after: dict[str, Any], nr_trips: int
) -> dict[str, float]:
    """Emu's work and KVM's exits for a trip; no exit should reach us.

    `kvm_exits` and `halts` are KVM's own counters, where it has them.
    """

    def each(old: int, new: int) -> float:
        return round((new - old) / nr_trips, 3)

    counts = {
        name: each(before[name], after[name])
        for name in ("traps", "exits_to_userspace")
    }
    emu = (before["vcpus"][0], after["vcpus"][0])
    for name in ("irq", "upcall", "block", "ring0"):
        if name in emu[0]:
            counts[name] = each(emu[0][name], emu[1][name])
    kvm = [(numbers["kvm_vcpus"] or [{}])[0] for numbers in (before, after)]
    for name, key in (("exits", "kvm_exits"), ("halt_exits", "halts")):
        if name in kvm[0]:
            counts[key] = each(kvm[0][name], kvm[1][name])
    return counts


def require_library() -> None:
    """AbsentError where libxenevtchn has not been built."""
    if not (_LIBS / "libxenevtchn.so.1").exists():
        raise AbsentError(f"no libxenevtchn in {_LIBS}: run tools/setup")


def build_program(directory: Path, source: Path) -> Path:
    """One of our C programs, linked with the library that it runs on."""
    program = directory / source.stem
    subprocess.run(
        ["cc", "-O2", source, "-o", program, f"-L{_LIBS}", "-lxenevtchn"],
        check=True,
    )
    return program


def trip_us(program: Path, way: str, runtime_dir: Path) -> float:
    """Microseconds for a round trip between two processes."""
    return run_us(runtime_dir, program, way, str(_NR_TRIPS))


def run_us(runtime_dir: Path, program: Path, *arguments: str) -> float:
    """Microseconds for a round trip, as a program measures it."""
    done = subprocess.run(
        [program, *arguments],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(_LIBS),
            "XENNER_RUNTIME_DIR": str(runtime_dir),
        },
        check=True,
        stdout=subprocess.PIPE,
        timeout=_LIMIT_S,
    )
    return float(done.stdout)


@contextmanager
def running_evtchnd(runtime_dir: Path) -> Iterator[None]:
    """evtchnd on a socket that is there before it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(runtime_dir / "evtchnd.socket"))
        listener.listen()
        script = (
            'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" -m evtchnd 3<&0 </dev/null'
        )
        with subprocess.Popen(
            ["sh", "-c", script, sys.executable],
            cwd=_TOP,
            stdin=listener.fileno(),
        ) as process:
            try:
                yield
            finally:
                process.send_signal(signal.SIGKILL)


CASES: Mapping[str, Callable[[], Result]] = {
    "eventfd-roundtrip": eventfd_roundtrip,
    "guest-roundtrip": guest_roundtrip,
}
