# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for the devices of a guest's file: until they are there for it, and
until it has connected them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from xenner.errors import HostError
from xenner.types import Domid
from xenner.xenbus import XenbusState, parse_state
from xenner.xenstore import Xenstore, XenstoreError
from xenner.xldisk import Disk
from xenner.xlvif import Vif
from xennerd.nodes.device import backend_path

OFFER_LIMIT_S = 40.0
"""libxl's LIBXL_HOTPLUG_TIMEOUT."""

_HOST = "/local/domain/0"
_UNSERVED = (XenbusState.UNKNOWN, XenbusState.INITIALISING)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A device by its backend's path, what people call it, and who should
    serve it."""

    path: str
    name: str
    daemon: str


def wanted_devices(
    domid: Domid, *, disks: Iterable[Disk], vifs: Iterable[Vif]
) -> list[Wanted]:
    """Those of a domain file."""
    found = [
        Wanted(
            backend_path(
                "qdisk" if disk.is_qdisk else "vbd", domid, disk.devid
            ),
            disk.vdev,
            "blkbackd",
        )
        for disk in disks
    ]
    return found + [
        Wanted(
            backend_path("vif", domid, vif.devid),
            f"vif {vif.devid}",
            "netbackd",
        )
        for vif in vifs
    ]


def wait_offered(
    xenstore: Path, devices: Iterable[Wanted], *, limit_s: float = OFFER_LIMIT_S
) -> None:
    """Until the backend of each offers it, as libxl waits; blocks.

    HostError: one is refused, or nobody serves it. It says which, and why.
    """
    _wait(xenstore, devices, _is_offered, limit_s=limit_s)


def wait_connected(
    xenstore: Path, devices: Iterable[Wanted], *, limit_s: float
) -> None:
    """Until the backend of each has been connected once; blocks.

    HostError: one is refused, or not in time. It says which, and why.
    """
    try:
        _wait(xenstore, devices, _is_up, limit_s=limit_s)
    except _LateError as error:
        raise HostError(
            f"{error.device.name} is not connected after {limit_s:g} s: "
            f"{error.why}",
            "see wait_devices of xenner-start(1)",
        ) from None


class _LateError(HostError):
    def __init__(self, device: Wanted, why: str) -> None:
        super().__init__(f"{device.name}: {why}")
        self.device = device
        self.why = why


def _wait(
    xenstore: Path,
    devices: Iterable[Wanted],
    is_there: Callable[[Xenstore, Wanted], bool],
    *,
    limit_s: float,
) -> None:
    missing = list(devices)
    until_s = time.monotonic() + limit_s
    try:
        with Xenstore(xenstore) as store:
            for device in missing:
                for node in ("state", "hotplug-status"):
                    store.watch(f"{device.path}/{node}")
            while missing := [d for d in missing if not is_there(store, d)]:
                for device in missing:
                    _check_refused(store, device)
                left_s = until_s - time.monotonic()
                if left_s <= 0 or not store.wait_event(left_s):
                    raise _LateError(missing[0], _why_late(store, missing[0]))
    except (OSError, XenstoreError) as error:
        raise HostError(f"xenstore: {error}") from error


def _is_offered(store: Xenstore, device: Wanted) -> bool:
    is_refused = store.find(f"{device.path}/hotplug-status") == "error"
    return not is_refused and _state(store, device) not in _UNSERVED


def _is_up(store: Xenstore, device: Wanted) -> bool:
    return _state(store, device) is XenbusState.CONNECTED


def _check_refused(store: Xenstore, device: Wanted) -> None:
    """A backend that cannot serve a device does not try again by itself."""
    if store.find(f"{device.path}/hotplug-status") == "error":
        why = store.find(f"{device.path}/hotplug-error") or "refused"
        raise HostError(f"{device.name}: {why}")


def _state(store: Xenstore, device: Wanted) -> XenbusState:
    return parse_state(store.find(f"{device.path}/state"))


def _why_late(store: Xenstore, device: Wanted) -> str:
    error = device.path.replace(_HOST, f"{_HOST}/error", 1)
    why = store.find(f"{error}/error")
    if not why and _state(store, device) in _UNSERVED:
        why = f"nobody serves it: is {device.daemon} running?"
    return why or "the guest has no driver that asks for it"
