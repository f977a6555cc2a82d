# SPDX-License-Identifier: GPL-2.0-or-later
"""The xenstore nodes of a guest's disks and interfaces, as libxl writes them.

Pure. Names, values, owners and rights are those of tools/libs/light in Xen
(libxl_device.c, libxl_disk.c, libxl_nic.c).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping

from xenner.types import Domid
from xenner.xldisk import Disk
from xenner.xlvif import Vif, vif_mac
from xennerd.nodes.guest import Node, domain_path

_SCRIPTS = "/etc/xen/scripts"


def device_nodes(
    domid: Domid,
    *,
    disks: Iterable[Disk] = (),
    vifs: Iterable[Vif] = (),
    handle: uuid.UUID,
) -> Iterator[Node]:
    """All nodes of a guest's devices, each after those that it is below.

    `handle` chooses the addresses of interfaces that have none.
    """
    for disk in disks:
        yield from disk_nodes(domid, disk)
    for vif in vifs:
        yield from vif_nodes(domid, vif, handle=handle)


def backend_path(kind: str, domid: Domid, devid: int) -> str:
    """Where domain 0's half of a device is; `kind` is vbd, qdisk or
    vif."""
    return f"/local/domain/0/backend/{kind}/{domid}/{devid}"


def frontend_path(kind: str, domid: Domid, devid: int) -> str:
    """Where the guest's half of a device is."""
    return f"{domain_path(domid)}/device/{kind}/{devid}"


def device_paths(kind: str, domid: Domid, devid: int) -> tuple[str, ...]:
    """What has to be removed when a device is gone."""
    return (
        frontend_path(kind, domid, devid),
        backend_path(kind, domid, devid),
        f"/libxl/{domid}/device/{kind}/{devid}",
    )


def disk_nodes(domid: Domid, disk: Disk) -> Iterator[Node]:
    """A disk, for blkbackd or a qdisk backend to serve."""
    kind = "cdrom" if disk.is_cdrom else "disk"
    back = {
        "frontend-id": str(domid),
        "params": _params(disk),
        "script": f"{_SCRIPTS}/block",
        "online": "1",
        "removable": "0",
        "bootable": "1",
        "state": "1",
        "dev": disk.vdev,
        "type": "qdisk" if disk.is_qdisk else "phy",
        "mode": "w" if disk.is_writable else "r",
        "device-type": kind,
        "discard-enable": str(int(disk.discards)),
        "specification": "xen",
    }
    back |= {name: str(value) for name, value in disk.limits}
    if disk.is_direct_io_safe:
        back["direct-io-safe"] = "1"
    front = {
        "backend-id": "0",
        "state": "1",
        "virtual-device": str(disk.devid),
        "device-type": kind,
        "trusted": str(int(disk.is_trusted)),
        # Old guests do not say what they speak: libxl says it for them.
        "protocol": "x86_64-abi",
    }
    yield from _device(
        "vbd",
        domid,
        disk.devid,
        front=front,
        back=back,
        back_kind="qdisk" if disk.is_qdisk else "vbd",
    )


def _params(disk: Disk) -> str:
    """libxl's words for formats are QEMU's but for a raw one's."""
    if not disk.is_qdisk:
        return disk.target
    return f"{'aio' if disk.format == 'raw' else disk.format}:{disk.target}"


def vif_nodes(domid: Domid, vif: Vif, *, handle: uuid.UUID) -> Iterator[Node]:
    """An interface, for netbackd or Linux' netback to serve."""
    mac = vif_mac(vif, seed=handle.bytes)
    script = vif.script
    back = {
        "frontend-id": str(domid),
        "online": "1",
        "state": "1",
        "script": script if script[:1] == "/" else f"{_SCRIPTS}/{script}",
        "vifname": vif.vifname,
        "mac": mac,
        "ip": " ".join(vif.ips),
        "gatewaydev": vif.gatewaydev,
        "rate": f"{vif.rate.nr_bytes},{vif.rate.interval_us}"
        if vif.rate
        else "",
        "mtu": str(vif.mtu) if vif.mtu != Vif(0).mtu else "",
        "vlan": vif.vlan,
        "bridge": vif.bridge,
        "handle": str(vif.devid),
        "type": "vif",
    }
    back = {name: value for name, value in back.items() if value}
    # Linux' netback waits for the script, which writes it.
    back["hotplug-status"] = ""
    front = {
        "backend-id": "0",
        "state": "1",
        "handle": str(vif.devid),
        "mac": mac,
        "trusted": str(int(vif.is_trusted)),
    }
    read_only = {"mtu": str(vif.mtu)}
    yield from _device(
        "vif", domid, vif.devid, front=front, back=back, read_only=read_only
    )


def _device(
    kind: str,
    domid: Domid,
    devid: int,
    *,
    front: Mapping[str, str],
    back: Mapping[str, str],
    read_only: Mapping[str, str] | None = None,
    back_kind: str = "",
) -> Iterator[Node]:
    front_path = frontend_path(kind, domid, devid)
    back_path = backend_path(back_kind or kind, domid, devid)
    guests_own = (f"n{domid}", "r0")
    hosts_own = ("n0", f"r{domid}")
    back = {"frontend": front_path, **back}
    own_path = f"/libxl/{domid}/device/{kind}/{devid}"
    yield Node(own_path, "", ("n0",))
    for name, value in {"backend": back_path, **back}.items():
        yield Node(f"{own_path}/{name}", value, ("n0",))
    yield Node(front_path, "", guests_own)
    for name, value in {"backend": back_path, **front}.items():
        yield Node(f"{front_path}/{name}", value, guests_own)
    for name, value in (read_only or {}).items():
        yield Node(f"{front_path}/{name}", value, hosts_own)
    # The state last: a reader that sees it sees the others.
    yield Node(back_path, "", hosts_own)
    for name, value in sorted(back.items(), key=lambda n: n[0] == "state"):
        yield Node(f"{back_path}/{name}", value, hosts_own)
