# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/net: netbackd against a bare loop in C on the same kind of tap.

The loop reads or writes and does nothing else: it is the limit. A frontend in
C drives netbackd, without a guest; behind a bridge, in a network namespace of
its own, a packet socket is the other end. tx is from the guest, rx to it. CPU
time for each packet stands beside: netbackd's, and the loop's.
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.placing import on_processor, processors
from bench.results import AbsentError, Result, in_turn, median
from bench.xenstore import cpu_s
from tests.support.backend import number
from tests.support.net.namespace import Namespace, open_namespace
from tests.support.net.rig import (
    Frontend,
    Rig,
    build_frontend,
    open_rig,
)

_BENCH = "net"
_TOP = Path(__file__).resolve().parent.parent
_PEER_NAME = "bare loop"
_DOMID = 321
SECONDS = 0.4
ROUNDS = 5
SMALL_BYTES = 64
# Of TCP, in segments of so many.
_LARGE_BYTES, _GSO_BYTES = 65214, 1448


@dataclass(frozen=True, slots=True)
class Place:
    """Both taps, each with a bridge and a peer of its own."""

    rig: Rig
    frontend: Frontend
    far: Namespace
    program: Path

    @property
    def pid(self) -> int:
        """netbackd's."""
        assert self.rig.backend is not None
        return self.rig.backend.pid

    def bare(self, *words: object) -> list[str]:
        """The bare loop's command line, where the taps are."""
        return self.rig.net.command(str(self.program), *map(str, words))

    def peer(self, *words: object) -> list[str]:
        """The other end's."""
        return self.far.command(str(self.program), *map(str, words))

    def under_load(
        self, side: str, size_bytes: int, gso: int, run: Callable[[], str]
    ) -> str:
        """Run something while the other end sends as fast as it can."""
        words = (side, size_bytes, gso, SECONDS * 2)
        with subprocess.Popen(
            self.peer("peer-tx", *words), stdout=subprocess.DEVNULL
        ) as peer:
            try:
                return run()
            finally:
                peer.kill()


@contextmanager
def open_place() -> Iterator[Place]:
    """netbackd with a connected frontend, a bare tap, and what is behind."""
    with ExitStack() as stack:
        name = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="xenner-bench.", dir="/dev/shm")
        )
        program = Path(name) / "net_bare"
        source = _TOP / "bench/net_bare.c"
        subprocess.run(["cc", "-O2", "-o", program, source], check=True)
        rig = stack.enter_context(
            open_rig(Path(name), build_frontend(Path(name)))
        )
        far = stack.enter_context(open_namespace())
        for net in (rig.net, far):
            net.run("sysctl", "-q", "net.ipv6.conf.default.disable_ipv6=1")
        rig.net.ip("tuntap add bare mode tap multi_queue vnet_hdr")
        for side in ("ours", "bare"):
            connect(rig.net, far, side)
        rig.net.ip("link set bare master br-bare")
        rig.net.ip("link set bare up")
        frontend = rig.start_frontend(_DOMID)
        frontend.plug(bridge="br-ours")
        frontend.connect()
        yield Place(rig, frontend, far, program)


def connect(near: Namespace, far: Namespace, side: str) -> None:
    """A bridge, and a cable from it to the other namespace."""
    near.ip(f"link add br-{side} type bridge")
    near.ip(f"link add to-{side} type veth peer name {side} netns {far.pid}")
    near.ip(f"link set to-{side} master br-{side}")
    for name in (f"br-{side}", f"to-{side}"):
        near.ip(f"link set {name} up")
    far.ip(f"link set {side} up")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise AbsentError(done.stderr.strip())
    return done.stdout


def rate(answer: str) -> float:
    return number(answer, "packets") / number(answer, "seconds")


def headers(gso: int, size_bytes: int) -> str:
    """The headers that net_bare.c makes."""
    head = bytearray(54 if gso else 14)
    head[:7] = b"\xff" * 6 + b"\x02"
    head[12:14] = b"\x08\x00" if gso else b"\x88\xb5"
    if gso:
        head[14] = 0x45
        head[16:18] = (size_bytes - 14).to_bytes(2, "big")
        head[22:24] = b"\x40\x06"
        head[46] = 5 << 4
        total = sum(head[14:34:2]) * 256 + sum(head[15:34:2])
        head[24:26] = (~(total % 0xFFFF) & 0xFFFF).to_bytes(2, "big")
    return head.hex()


@dataclass
class Meter:
    """CPU time for each packet, of either side."""

    ours_us: list[float]
    peer_us: list[float]

    def extra(self) -> dict[str, float]:
        return {
            "ours_cpu_us": round(median(self.ours_us), 3),
            "peer_cpu_us": round(median(self.peer_us), 3),
        }


def served(pid: int, times_us: list[float], run: Callable[[], str]) -> float:
    """Packets each second of a load, and CPU time of the backend for each."""
    before_s = cpu_s(pid)
    answer = run()
    used_s = cpu_s(pid) - before_s
    times_us.append(1e6 * used_s / max(number(answer, "packets"), 1))
    return rate(answer)


def _bare(meter: Meter, run: Callable[[], str]) -> float:
    answer = run()
    meter.peer_us.append(
        1e6 * number(answer, "cpu") / number(answer, "packets")
    )
    return rate(answer)


def transmit(gso: int, size_bytes: int) -> Result:
    """From the guest: as fast as it goes."""
    with open_place() as place:
        place.frontend.ask(f"frame {headers(gso, size_bytes)}")
        words = f"{size_bytes} {gso} {SECONDS}"
        meter = Meter([], [])
        ask = partial(place.frontend.ask, f"tx {words}")
        run = partial(_run, place.bare("tap-tx", "bare", *words.split()))
        ours, peer = in_turn(
            partial(served, place.pid, meter.ours_us, ask),
            partial(_bare, meter, run),
            rounds=ROUNDS,
        )
    return _result(gso, size_bytes, "tx", (ours, peer), meter)


def receive(gso: int, size_bytes: int) -> Result:
    """To the guest: the other end sends as fast as it can."""
    with open_place() as place:
        meter = Meter([], [])

        def under_load(side: str, run: Callable[[], str]) -> str:
            return place.under_load(side, size_bytes, gso, run)

        ask = partial(place.frontend.ask, f"rx {SECONDS}")
        run = partial(_run, place.bare("tap-rx", "bare", SECONDS))
        ours, peer = in_turn(
            partial(
                served,
                place.pid,
                meter.ours_us,
                partial(under_load, "ours", ask),
            ),
            partial(_bare, meter, partial(under_load, "bare", run)),
            rounds=ROUNDS,
        )
    return _result(gso, size_bytes, "rx", (ours, peer), meter)


def _result(
    gso: int,
    size_bytes: int,
    way: str,
    rates: tuple[list[float], list[float]],
    meter: Meter,
) -> Result:
    ours, peer = map(median, rates)
    extra = {**meter.extra(), "ours_all": rates[0], "peer_all": rates[1]}
    if not gso:
        case, unit = f"bare-64b-{way}", "packet/s"
    else:
        case, unit = f"bare-gso-{way}", "MB/s"
        ours, peer = ours * size_bytes / 1e6, peer * size_bytes / 1e6
    return Result(_BENCH, case, ours, peer, _PEER_NAME, unit, "higher", extra)


def latency() -> Result:
    """A frame there and back, half of them faster. Who answers has one
    processor and the other end another: how long one takes to wake the other
    decides, and is the same for both."""
    near, far = processors()[0], processors()[-1]
    with on_processor(near), open_place() as place:

        def ping(side: str) -> float:
            with on_processor(far):
                said = _run(place.peer("peer-ping", side, SECONDS))
            return number(said, "us")

        def ours() -> float:
            process = place.frontend.process
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"echo {SECONDS * 2}\n")
            process.stdin.flush()
            try:
                return ping("ours")
            finally:
                process.stdout.readline()

        def bare() -> float:
            command = place.bare("tap-echo", "bare", SECONDS * 2)
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as loop:
                try:
                    return ping("bare")
                finally:
                    loop.kill()

        times = in_turn(ours, bare, rounds=ROUNDS)
    return Result(
        _BENCH,
        "latency",
        median(times[0]),
        median(times[1]),
        _PEER_NAME,
        "us",
        "lower",
        {"ours_all": times[0], "peer_all": times[1]},
    )


CASES: Mapping[str, Callable[[], Result]] = {
    "bare-64b-tx": partial(transmit, 0, SMALL_BYTES),
    "bare-64b-rx": partial(receive, 0, SMALL_BYTES),
    "bare-gso-tx": partial(transmit, _GSO_BYTES, _LARGE_BYTES),
    "bare-gso-rx": partial(receive, _GSO_BYTES, _LARGE_BYTES),
    "latency": latency,
}
