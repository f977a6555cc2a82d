# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/evtchn: a notification from one process to another, and back."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.results import AbsentError, Result, in_turn, median

_TOP = Path(__file__).resolve().parent.parent
_SOURCE = _TOP / "bench/evtchn_roundtrip.c"
_LIBS = _TOP / "build/meson/libs"
_NR_TRIPS = 20_000
_ROUNDS = 9
_LIMIT_S = 60.0


def eventfd_roundtrip() -> Result:
    """Notify to wake and back through libxenevtchn, against two eventfds.

    Neither way has evtchnd in it: it is asked once, for the channel.
    """
    if not (_LIBS / "libxenevtchn.so.1").exists():
        raise AbsentError(f"no libxenevtchn in {_LIBS}: run tools/setup")
    with tempfile.TemporaryDirectory(prefix="xenner-bench.") as name:
        directory = Path(name)
        program = directory / "roundtrip"
        # _LIBS first: the program is linked with the library that it runs on.
        subprocess.run(
            ["cc", "-O2", _SOURCE, "-o", program, f"-L{_LIBS}", "-lxenevtchn"],
            check=True,
        )
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


def trip_us(program: Path, way: str, runtime_dir: Path) -> float:
    """Microseconds for a round trip, as the program measures it."""
    done = subprocess.run(
        [program, way, str(_NR_TRIPS)],
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
}
