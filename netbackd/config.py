# SPDX-License-Identifier: GPL-2.0-or-later
"""What a toolstack writes of a vif: the backend's nodes (libxl's, from vif= of
xl.cfg). Pure: a function gives each node's value."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import PurePath

from xenner.errors import HostError

# Of ASCII, what the kernel takes: no blanks, no slash, no colon. Where it has a
# percent sign the kernel would make a name of its own.
_NAME = re.compile(r"[!-$&-.0-9;-~]{1,15}")
_MAX_VID = 4094
_MIN_MTU, _MAX_MTU = 68, 65521
# Xen's own scripts, by what they do: we do it ourselves.
_BRIDGE_SCRIPT, _ROUTE_SCRIPT = "vif-bridge", "vif-route"


@dataclass(frozen=True, slots=True)
class Vlan:
    """A VLAN of a bridge's port; `is_untagged`: it is the port's own."""

    vid: int
    is_untagged: bool


@dataclass(frozen=True, slots=True)
class VifConfig:
    """A tap as it is wished. `mtu` 0: the bridge's, or 1500. `script` is one
    that is run: it does the rest, is told of `netdev`, the gateway device, and
    may call the tap `later_name`."""

    name: str
    mtu: int = 0
    bridge: str = ""
    vlans: tuple[Vlan, ...] = ()
    gateway: str = ""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    script: str = ""
    netdev: str = ""
    later_name: str = ""


def read_config(read: Callable[[str], str | None], path: str) -> VifConfig:
    """Of the device at backend/vif/DOMID/DEVID. HostError: a node makes no
    sense."""
    domid, devid = path.split("/")[-2:]
    own_name = f"vif{domid}.{devid}"
    wished = _name(read("vifname"))
    mtu = _mtu(read("mtu"))
    script = read("script") or ""
    kind = PurePath(script).name or _BRIDGE_SCRIPT
    gateway = _name(read("gatewaydev"))
    if kind not in (_BRIDGE_SCRIPT, _ROUTE_SCRIPT):
        return VifConfig(
            own_name, mtu, script=script, netdev=gateway, later_name=wished
        )
    bridge = _name(read("bridge"))
    name = wished or own_name
    if kind == _ROUTE_SCRIPT or (gateway and not bridge):
        if not gateway:
            raise HostError("vif-route wants a gatewaydev")
        networks = parse_networks(read("ip") or "")
        return VifConfig(name, mtu, gateway=gateway, networks=networks)
    vlans = parse_vlans(read("vlan") or "")
    return VifConfig(name, mtu, bridge=bridge, vlans=vlans)


def _name(text: str | None) -> str:
    if text and (not _NAME.fullmatch(text) or text in (".", "..")):
        raise HostError(f"{text!r} is no name for an interface")
    return text or ""


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Addresses, or networks of a guest's own: "192.0.2.7 10.1.0.0/24".
    HostError."""
    try:
        return tuple(map(ip_network, text.split()))
    except ValueError as error:
        raise HostError(f"ip: {error}") from error


def _mtu(text: str | None) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise HostError(f"mtu {text!r} is no number")
    if not _MIN_MTU <= int(text) <= _MAX_MTU:
        raise HostError(f"mtu {text} is not in {_MIN_MTU}..{_MAX_MTU}")
    return int(text)


def parse_vlans(text: str) -> tuple[Vlan, ...]:
    """As Xen's vif-bridge has it: "10", or a list "10p/20/30-39" in which p
    marks the one that is the port's own. HostError."""
    words = [word for word in text.split("/") if word]
    found: list[Vlan] = []
    for word in words:
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?(p?)", word)
        if not match:
            raise HostError(f"vlan {text!r}: {word!r} is no VLAN")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= _MAX_VID or (match[3] and match[2]):
            raise HostError(f"vlan {text!r}: {word!r} is no VLAN")
        is_untagged = bool(match[3]) or (len(words) == 1 and first == last)
        found += [Vlan(vid, is_untagged) for vid in range(first, last + 1)]
    return tuple(found)
