# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/net, xennic-*: netbackd against QEMU's network backend for Xen.

Debian's build of QEMU for Xen, unmodified, as a toolstack starts it beside a
guest, on the same libraries, event channels and kind of memory; its tap has a
bridge and a cable like ours. It is the one of bookworm-backports: in 7.2 the
network backend is connected to nothing, and only since 8.2 does
xen-net-device take a netdev.
"""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.net import (
    ROUNDS,
    SECONDS,
    SMALL_BYTES,
    Meter,
    Place,
    connect,
    headers,
    open_place,
    served,
)
from bench.results import AbsentError, Result, in_turn, median
from lab.archive import Apt, sources
from lab.cache import find_or_make, key_of, remove
from lab.errors import LabError
from tests.support.backend import register
from tests.support.net.rig import Frontend
from xenner.xenbus import XenbusState

_DOMID = 322
_PACKAGES = ("qemu-system-xen", "qemu-system-common")
_PROGRAM = "usr/libexec/xen-qemu-system-i386"
_TAP = "qtap"


class QemuFrontend(Frontend):
    """A domain whose backend is QEMU's."""

    @property
    def backend(self) -> str:
        return f"/local/domain/0/backend/qnic/{self.domid}/0"


@dataclass(frozen=True, slots=True)
class Qemu:
    """A connected frontend, and who serves it."""

    frontend: QemuFrontend
    pid: int


def find_qemu() -> Path:
    """QEMU for Xen. AbsentError: the archive cannot be reached."""
    try:
        directory = find_or_make("xenqemu", key_of([Path(__file__)]), _unpack)
    except LabError as error:
        raise AbsentError(str(error)) from error
    return directory / _PROGRAM


def _unpack(directory: Path) -> None:
    state = directory / "apt"
    apt = Apt(state, sources("backports"))
    for deb in apt.download(_PACKAGES, directory):
        subprocess.run(["dpkg-deb", "--extract", deb, directory], check=True)
        deb.unlink()
    remove(state)


def _command(program: Path) -> list[str]:
    return [
        str(program),
        *("-M", "xenpv", "-xen-attach", "-xen-domid", str(_DOMID)),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-monitor", "none"),
        *("-netdev", f"tap,id=n,ifname={_TAP},script=no,downscript=no"),
        *("-device", "xen-net-device,netdev=n,idx=0,mac=00:16:3e:00:00:02"),
    ]


@contextmanager
def open_qemu(place: Place) -> Iterator[Qemu]:
    """QEMU beside netbackd, with a frontend and a tap of its own. It offers
    no features and one event channel."""
    program, rig = find_qemu(), place.rig
    net = rig.net
    net.ip(f"tuntap add {_TAP} mode tap")
    connect(net, place.far, "qemu")
    net.ip(f"link set {_TAP} master br-qemu")
    net.ip(f"link set {_TAP} up")
    frontend = register(
        QemuFrontend(rig, _DOMID, rig.start_process(_DOMID), net=net)
    )
    with subprocess.Popen(
        rig.command(*_command(program)), env=rig.environment()
    ) as process:
        try:
            frontend.wait_backend(XenbusState.INIT_WAIT)
            frontend.publish(1, is_split=False, features=("request-rx-copy",))
            frontend.wait_backend(XenbusState.CONNECTED)
            yield Qemu(frontend, process.pid)
        finally:
            process.kill()


def _compare(way: str, load: Callable[[Place, Frontend, str], str]) -> Result:
    with open_place() as place, open_qemu(place) as qemu:
        meter = Meter([], [])
        for frontend in (place.frontend, qemu.frontend):
            frontend.ask(f"frame {headers(0, SMALL_BYTES)}")
        ours = partial(load, place, place.frontend, "ours")
        peer = partial(load, place, qemu.frontend, "qemu")
        rates = in_turn(
            partial(served, place.pid, meter.ours_us, ours),
            partial(served, qemu.pid, meter.peer_us, peer),
            rounds=ROUNDS,
        )
    return Result(
        "net",
        f"xennic-64b-{way}",
        median(rates[0]),
        median(rates[1]),
        "QEMU's xen_nic",
        "packet/s",
        "higher",
        {**meter.extra(), "ours_all": rates[0], "peer_all": rates[1]},
    )


def _send(place: Place, frontend: Frontend, side: str) -> str:
    return frontend.ask(f"tx {SMALL_BYTES} 0 {SECONDS}")


def _take(place: Place, frontend: Frontend, side: str) -> str:
    # QEMU never asks for an event when there are buffers again; both sides
    # have one with each batch of them.
    return place.under_load(
        side, SMALL_BYTES, 0, lambda: frontend.ask(f"rx {SECONDS} 1")
    )


CASES: Mapping[str, Callable[[], Result]] = {
    "xennic-64b-tx": partial(_compare, "tx", _send),
    "xennic-64b-rx": partial(_compare, "rx", _take),
}
