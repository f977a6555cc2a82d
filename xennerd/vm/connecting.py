# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting until a guest has connected the devices of its file."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xenner.errors import HostError
from xenner.types import Domid
from xenner.xenbus import XenbusState, parse_state
from xenner.xenstore import Xenstore, XenstoreError
from xenner.xldisk import Disk
from xenner.xlvif import Vif
from xennerd.devicenodes import backend_path

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


def wait_connected(
    xenstore: Path, devices: Iterable[Wanted], *, limit_s: float
) -> None:
    """Until the backend of each has been connected once; blocks.

    HostError: one is not in time. It says which, and why not.
    """
    missing = list(devices)
    until_s = time.monotonic() + limit_s
    try:
        with Xenstore(xenstore) as store:
            for device in missing:
                store.watch(f"{device.path}/state")
            while missing := [d for d in missing if not _is_up(store, d)]:
                left_s = until_s - time.monotonic()
                if left_s <= 0 or not store.wait_event(left_s):
                    raise _late(store, missing[0], limit_s)
    except (OSError, XenstoreError) as error:
        raise HostError(f"xenstore: {error}") from error


def _is_up(store: Xenstore, device: Wanted) -> bool:
    return _state(store, device) is XenbusState.CONNECTED


def _state(store: Xenstore, device: Wanted) -> XenbusState:
    return parse_state(store.find(f"{device.path}/state"))


def _late(store: Xenstore, device: Wanted, limit_s: float) -> HostError:
    error = device.path.replace(_HOST, f"{_HOST}/error", 1)
    why = store.find(f"{error}/error")
    if not why and _state(store, device) in _UNSERVED:
        why = f"nobody serves it: is {device.daemon} running?"
    return HostError(
        f"{device.name} is not connected after {limit_s:g} s: "
        + (why or "the guest has no driver that asks for it"),
        "see wait_devices of xenner-start(1)",
    )
