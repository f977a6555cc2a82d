# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/net, guest-*: iperf3 between two Debian guests on a bridge, beside
iperf3 between two network namespaces on one; and what a packet costs each guest
in traps and exits."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.evtchn import per_trip
from bench.machines import KERNEL
from bench.results import AbsentError, Result, in_turn, median
from tests.support.net.namespace import Namespace, open_namespace
from tests.support.network import (
    NETFRONT,
    NetworkHost,
    iperf_between,
    make_network_disk,
    open_network,
)
from tests.support.qmp import qmp
from tests.support.services import Guest

_DOMIDS = (323, 324)
_ROUNDS = 3
_SECONDS = 1
# To start iperf3 costs thousands of traps: what a packet costs is the
# difference of many and few.
_FEW, _MANY = 4 << 20, 64 << 20
_COUNTERS = "cat /sys/class/net/eth0/statistics/?x_packets"


@dataclass(frozen=True, slots=True)
class Load:
    """iperf3's words, and how much of it makes few packets and many."""

    words: tuple[str, ...]
    few: int
    many: int

    @property
    def is_udp(self) -> bool:
        return "-u" in self.words


@dataclass(frozen=True, slots=True)
class MeasuredGuest:
    guest: Guest
    monitor: Path

    def statistics(self) -> tuple[dict[str, Any], int]:
        """Its counters, and its packets both ways."""
        said = self.guest.do(_COUNTERS)
        with qmp(self.monitor) as ask:
            return ask("x-xenner-statistics")["return"], sum(
                map(int, said.split())
            )


@dataclass(frozen=True, slots=True)
class Place:
    """A sender, 10.9.0.2, and who takes it, .3; two namespaces likewise."""

    sender: MeasuredGuest
    taker: MeasuredGuest
    namespaces: tuple[Namespace, Namespace]

    def run(self, *words: str) -> dict[str, float]:
        """iperf3 from one guest to the other."""
        guests = self.sender.guest, self.taker.guest
        return iperf_between(*guests, "10.9.0.3", *words)

    def run_beside(self, *words: str) -> dict[str, float]:
        """The same without guests."""
        near, far = self.namespaces
        with subprocess.Popen(
            ["stdbuf", "-oL", *far.command("iperf3", "-s", "-1")],
            stdout=subprocess.PIPE,
        ) as server:
            assert server.stdout is not None
            while b"listening" not in server.stdout.readline():
                if server.poll() is not None:
                    raise AbsentError("iperf3 does not listen")
            said = near.run("iperf3", "-J", "-c", "10.9.0.3", *words)
        end = json.loads(said)["end"]
        sums: dict[str, float] = end["sum" if "-u" in words else "sum_received"]
        return sums

    def per_packet(self, load: Load) -> dict[str, dict[str, float]]:
        """What a packet, sent or taken, costs either guest: per_trip()'s."""
        few, many = (
            self._cost(f"-n{count}", *load.words)
            for count in (load.few, load.many)
        )
        return {
            side: {
                name: round(
                    (many[side][name] - few[side][name])
                    / max(many[side]["packets"] - few[side]["packets"], 1),
                    3,
                )
                for name in few[side]
                if name != "packets"
            }
            for side in few
        }

    def _cost(self, *words: str) -> dict[str, dict[str, float]]:
        guests = {"sender": self.sender, "taker": self.taker}
        before = {side: guest.statistics() for side, guest in guests.items()}
        self.run(*words)
        cost = {}
        for side, guest in guests.items():
            (old, nr_old), (new, nr_new) = before[side], guest.statistics()
            cost[side] = {**per_trip(old, new, 1), "packets": nr_new - nr_old}
        return cost


@contextmanager
def open_place() -> Iterator[Place]:
    """AbsentError: no guests here."""
    if not os.access("/dev/kvm", os.W_OK):
        raise AbsentError("no usable /dev/kvm")
    if os.geteuid() != 0 or not shutil.which("iperf3") or not NETFRONT.exists():
        raise AbsentError("root, iperf3 and Debian's modules are needed")
    with ExitStack() as stack:
        files = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="xenner-bench.")
        )
        runtime = stack.enter_context(
            tempfile.TemporaryDirectory(dir="/dev/shm")
        )
        disk = make_network_disk(Path(files))
        host = stack.enter_context(open_network(Path(runtime), KERNEL, disk))
        host.net.ip("link add xenbr0 type bridge")
        host.net.ip("link set xenbr0 up")
        sender, taker = (
            _boot(host, domid, number)
            for number, domid in enumerate(_DOMIDS, 2)
        )
        near = stack.enter_context(open_namespace())
        far = stack.enter_context(open_namespace())
        _lay_bridge(host.net, near, far)
        yield Place(sender, taker, (near, far))


def _boot(host: NetworkHost, domid: int, number: int) -> MeasuredGuest:
    monitor = host.directory / f"qmp.{domid}"
    guest = host.boot_guest(
        domid, "-monitor", f"unix:{monitor}", bridge="xenbr0"
    )
    guest.do("until ip link set eth0 up; do sleep 0.1; done")
    guest.do(f"ip addr add 10.9.0.{number}/24 dev eth0")
    return MeasuredGuest(guest, monitor)


def _lay_bridge(net: Namespace, *sides: Namespace) -> None:
    net.ip("link add br-peer type bridge")
    net.ip("link set br-peer up")
    for number, side in enumerate(sides, 2):
        name = f"peer{number}"
        net.ip(f"link add {name} type veth peer name eth0 netns {side.pid}")
        net.ip(f"link set {name} master br-peer")
        net.ip(f"link set {name} up")
        side.ip("link set eth0 up")
        side.ip(f"addr add 10.9.0.{number}/24 dev eth0")


def _measure(case: str, load: Load) -> Result:
    with open_place() as place:

        def rate(run: Callable[..., dict[str, float]]) -> float:
            sums = run(f"-t{_SECONDS}", *load.words)
            if not load.is_udp:
                return sums["bytes"] / sums["seconds"] / 1e6
            taken = sums["packets"] - sums["lost_packets"]
            return taken / sums["seconds"]

        ours, peer = in_turn(
            partial(rate, place.run),
            partial(rate, place.run_beside),
            rounds=_ROUNDS,
        )
        return Result(
            "net",
            case,
            median(ours),
            median(peer),
            "two namespaces",
            "packet/s" if load.is_udp else "MB/s",
            "higher",
            {
                "ours_all": ours,
                "peer_all": peer,
                "per_packet": place.per_packet(load),
            },
        )


# 18 bytes make a frame of 60.
_LOADS = {
    "guest-tcp": Load((), _FEW, _MANY),
    "guest-udp-60b": Load(("-u", "-b0", "-l18"), 20000, 400000),
}
CASES: Mapping[str, Callable[[], Result]] = {
    case: partial(_measure, case, load) for case, load in _LOADS.items()
}
