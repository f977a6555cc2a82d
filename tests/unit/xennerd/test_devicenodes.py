# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in xenstore for a device, and whose it is."""

import uuid

from xenner.types import Domid
from xenner.xldisk import LIMITS, parse_disk
from xenner.xlvif import parse_vif
from xennerd.nodes.device import device_nodes, device_paths

DOMID = Domid(7)
HANDLE = uuid.UUID("12345678-9abc-4def-8123-456789abcdef")
FRONT = "/local/domain/7/device"
BACK = "/local/domain/0/backend"


def nodes(disk: str = "", vif: str = "") -> dict[str, tuple[str, ...]]:
    """Values and rights by path; every node once."""
    found = list(
        device_nodes(
            DOMID,
            disks=[parse_disk(disk)] if disk else [],
            vifs=[parse_vif(vif, devid=0)] if vif else [],
            handle=HANDLE,
        )
    )
    assert len({node.path for node in found}) == len(found)
    return {node.path: (node.value, *node.perms) for node in found}


def below(all_nodes: dict[str, tuple[str, ...]], path: str) -> dict[str, str]:
    return {
        name.removeprefix(f"{path}/"): value
        for name, (value, *_) in all_nodes.items()
        if name.startswith(f"{path}/")
    }


def test_disk() -> None:
    found = nodes(disk="/dev/vg/lv,raw,xvda1,r,no-discard")
    assert below(found, f"{BACK}/vbd/7/51713") == {
        "frontend": f"{FRONT}/vbd/51713",
        "frontend-id": "7",
        "params": "/dev/vg/lv",
        "script": "/etc/xen/scripts/block",
        "online": "1",
        "removable": "0",
        "bootable": "1",
        "state": "1",
        "dev": "xvda1",
        "type": "phy",
        "mode": "r",
        "device-type": "disk",
        "discard-enable": "0",
        "specification": "xen",
    }
    assert below(found, f"{FRONT}/vbd/51713") == {
        "backend": f"{BACK}/vbd/7/51713",
        "backend-id": "0",
        "state": "1",
        "virtual-device": "51713",
        "device-type": "disk",
        "trusted": "1",
        "protocol": "x86_64-abi",
    }


def test_limits_of_a_disk() -> None:
    told = dict(zip(LIMITS, "1234", strict=True))
    words = ",".join(f"{name}={value}" for name, value in told.items())
    found = nodes(disk=f"/dev/vg/lv,raw,xvda,{words}")
    assert told.items() <= below(found, f"{BACK}/vbd/7/51712").items()


def test_vif() -> None:
    mac = "00:16:3e:01:02:03"
    found = nodes(vif=f"mac={mac},bridge=br0,ip=10.0.0.5,rate=1MB/s,mtu=9000")
    assert below(found, f"{BACK}/vif/7/0") == {
        "frontend": f"{FRONT}/vif/0",
        "frontend-id": "7",
        "online": "1",
        "state": "1",
        "script": "/etc/xen/scripts/vif-bridge",
        "mac": mac,
        "ip": "10.0.0.5",
        "rate": "50000,50000",
        "mtu": "9000",
        "bridge": "br0",
        "handle": "0",
        "type": "vif",
        "hotplug-status": "",
    }
    assert below(found, f"{FRONT}/vif/0") == {
        "backend": f"{BACK}/vif/7/0",
        "backend-id": "0",
        "state": "1",
        "handle": "0",
        "mac": mac,
        "trusted": "1",
        "mtu": "9000",
    }


def test_whose_they_are() -> None:
    found = nodes(disk="/d,raw,xvda", vif="bridge=br0")
    for path, (_, *perms) in found.items():
        if path.startswith("/libxl/"):
            assert perms == ["n0"]
        elif path.startswith(BACK) or path.endswith("vif/0/mtu"):
            assert perms == ["n0", "r7"]
        else:
            assert path.startswith(FRONT)
            assert perms == ["n7", "r0"]


def test_the_backend_is_told_last() -> None:
    paths = list(nodes(disk="/d,raw,xvda"))
    assert paths[-1] == f"{BACK}/vbd/7/51712/state"


def test_all_of_a_device_can_be_removed() -> None:
    tops = device_paths("vbd", DOMID, 51712)
    for path in nodes(disk="/d,raw,xvda"):
        assert any(path == top or path.startswith(f"{top}/") for top in tops)
