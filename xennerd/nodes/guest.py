# SPDX-License-Identifier: GPL-2.0-or-later
"""The xenstore nodes of a PV guest, as libxl writes them. Pure.

Names, values, owners and rights are those of tools/libs/light in Xen
(libxl_create.c, libxl_dom.c, libxl_console.c).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from xenner.types import Domid, Mfn, Port
from xenner.xldisk import Disk
from xenner.xlvif import Vif

# The console's limit as libxl has it, bytes.
_CONSOLE_LIMIT = 1048576


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its owner's rights first, as SET_PERMS takes them."""

    path: str
    value: str
    perms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guest:
    """What the nodes say about a guest. Memory is in KiB."""

    domid: Domid
    name: str
    handle: uuid.UUID
    memory_kib: int
    nr_vcpus: int
    store_mfn: Mfn
    store_port: Port
    console_mfn: Mfn
    console_port: Port
    max_memory_kib: int = 0
    """That it can grow to; 0: no further."""
    kernel: str = ""
    ramdisk: str = ""
    cmdline: str = ""
    console_type: str = "xenconsoled"
    """Who serves the console: xenconsoled if it says so, QEMU if "ioemu".

    Both leave alone what names somebody else.
    """
    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()
    """The devices: their nodes are device.py's."""


def domain_path(domid: Domid) -> str:
    """Where a domain's own nodes are."""
    return f"/local/domain/{domid}"


def all_paths(guest: Guest) -> tuple[str, ...]:
    """What has to be removed when the guest is gone."""
    return (
        domain_path(guest.domid),
        *(
            f"/local/domain/0/backend/{kind}/{guest.domid}"
            for kind in ("console", "vbd", "qdisk", "vif")
        ),
        f"/vm/{guest.handle}",
        f"/libxl/{guest.domid}",
    )


def guest_nodes(guest: Guest, *, now_s: float | None = None) -> Iterator[Node]:
    """All nodes of a new guest, each after those that it is below."""
    top = domain_path(guest.domid)
    own = (f"n{guest.domid}",)
    readable = ("n0", f"r{guest.domid}")
    hidden = ("n0",)
    start = f"{time.time() if now_s is None else now_s:.2f}"

    def under(
        at: str, perms: tuple[str, ...], values: dict[str, str]
    ) -> Iterator[Node]:
        yield Node(at, "", perms)
        for name, value in values.items():
            yield Node(f"{at}/{name}", value, perms)

    vm = f"/vm/{guest.handle}"
    yield from under(
        vm,
        readable,
        {
            "uuid": str(guest.handle),
            "name": guest.name,
            "image": "",
            "image/ostype": "linux",
            "image/kernel": guest.kernel,
            "image/ramdisk": guest.ramdisk,
            "image/cmdline": guest.cmdline,
            "start_time": start,
        },
    )
    yield from under(
        f"/libxl/{guest.domid}", hidden, {"type": "pv", "device": ""}
    )
    yield from under(
        top,
        readable,
        {"vm": vm, "name": guest.name, "domid": str(guest.domid)},
    )
    yield Node(f"{top}/cpu", "", readable)
    for cpu in range(guest.nr_vcpus):
        yield from under(
            f"{top}/cpu/{cpu}", readable, {"availability": "online"}
        )
    yield from under(
        f"{top}/memory",
        readable,
        {
            "static-max": str(guest.max_memory_kib or guest.memory_kib),
            "target": str(guest.memory_kib),
            "videoram": "0",
        },
    )
    yield Node(f"{top}/device", "", readable)
    yield Node(f"{top}/device/suspend", "", readable)
    yield Node(f"{top}/device/suspend/event-channel", "", own)
    yield from under(
        f"{top}/control",
        readable,
        {
            "platform-feature-multiprocessor-suspend": "1",
            "platform-feature-xs_reset_watches": "1",
        },
    )
    for name in (
        "shutdown",
        "feature-poweroff",
        "feature-reboot",
        "feature-suspend",
        "sysrq",
    ):
        yield Node(f"{top}/control/{name}", "", own)
    for name in ("data", "drivers", "feature", "attr", "error"):
        yield Node(f"{top}/{name}", "", own)
    yield from under(
        f"{top}/store",
        readable,
        {"port": str(guest.store_port), "ring-ref": str(guest.store_mfn)},
    )
    yield from _console(guest, readable)


def _console(guest: Guest, readable: tuple[str, ...]) -> Iterator[Node]:
    front = f"{domain_path(guest.domid)}/console"
    back = f"/local/domain/0/backend/console/{guest.domid}/0"
    yield Node(front, "", readable)
    for name, value in {
        "backend": back,
        "backend-id": "0",
        "limit": str(_CONSOLE_LIMIT),
        "type": guest.console_type,
        "output": "pty",
        "tty": "",
        "port": str(guest.console_port),
        "ring-ref": str(guest.console_mfn),
    }.items():
        # Nothing below is for the guest to write: the console's port and page
        # are those it was started with.
        yield Node(f"{front}/{name}", value, readable)
    yield Node(back, "", readable)
    for name, value in {
        "frontend": front,
        "frontend-id": str(guest.domid),
        "online": "1",
        "state": "1",
        "protocol": "vt100",
    }.items():
        yield Node(f"{back}/{name}", value, readable)
