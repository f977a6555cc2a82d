# SPDX-License-Identifier: GPL-2.0-or-later
"""Tap devices: made, named, attached to bridge or route, removed.

Calls block, and need CAP_NET_ADMIN. A tap outlives this process, and with it
its place in a bridge: a backend that comes back finds it. It has a carrier
while one of its queues is open.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netbackd.frontend import Features
from netbackd.wishes import Vlan, Wishes
from xenner.errors import HostError

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOFFLOAD = 0x400454D0
_TUNGETFEATURES = 0x800454CF
_TAP, _NO_PI, _VNET_HDR, _MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
_FLAGS = _TAP | _NO_PI | _VNET_HDR | _MULTI_QUEUE
_CSUM, _TSO4, _TSO6, _TSO_ECN = 1, 2, 4, 8
# net/if.h
_SIOCGIFFLAGS, _SIOCGIFMTU, _IFF_UP = 0x8913, 0x8921, 1
_IFREQ, _NAME_BYTES = struct.Struct("16sH22x"), 16

# As Xen's scripts: a bridge has the address of its lowest member, and that is
# to be none of these.
_HOST_MAC = "fe:ff:ff:ff:ff:ff"
# In the link's alias, to know them again.
_ALIAS = "xenner "
_BRIDGE_VLAN_PVID, _BRIDGE_VLAN_UNTAGGED = 2, 4


@dataclass(frozen=True, slots=True)
class Placed:
    """What has become of a tap's surroundings. `missing` names the bridge
    that does not exist (yet), else empty; `bridge_index` is that of the one it
    is in, else 0."""

    mtu: int
    missing: str = ""
    bridge_index: int = 0


def make_tap(wishes: Wishes, path: str) -> Placed:
    """Make the tap of the device at `path`, or find it, and put it where it
    belongs. To be called again when a bridge has appeared.

    HostError: the name is somebody else's, or it cannot be had as wished.
    """
    with _errors(wishes.name):
        _make(wishes.name)
        with IPRoute() as route:
            index = _index(route, wishes.name)
            assert index is not None
            placed = _place(route, index, wishes)
            route.link(
                "set",
                index=index,
                mtu=placed.mtu,
                address=_HOST_MAC,
                ifalias=_ALIAS + path,
            )
            route.link("set", index=index, state="up")
            if wishes.gateway:
                _add_routes(route, index, wishes)
    return placed


@dataclass(frozen=True, slots=True)
class Link:
    """A tap as the host has it now."""

    is_up: bool
    mtu: int


def look_at(name: str) -> Link | None:
    """None: there is no such interface. netdevice(7); does not block."""
    request = _IFREQ.pack(name.encode(), 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as link:
        try:
            flags = fcntl.ioctl(link, _SIOCGIFFLAGS, request)
            mtu = fcntl.ioctl(link, _SIOCGIFMTU, request)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return None
    is_up = bool(_IFREQ.unpack(flags)[1] & _IFF_UP)
    return Link(is_up, struct.unpack_from("i", mtu, _NAME_BYTES)[0])


def index_of(name: str) -> int:
    """An interface's, which is another's when it was made anew; 0: there is
    none. Does not block."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def remove_tap(name: str) -> None:
    """It is not there any more; one that never was is fine."""
    with _errors(name), IPRoute() as route:
        index = _index(route, name)
        if index is not None:
            route.link("del", index=index)


def our_taps() -> dict[str, str]:
    """Those that make_tap() has made, by name: the device's path."""
    found = {}
    with _errors("links"), IPRoute() as route:
        for link in route.get_links():
            alias = link.get_attr("IFLA_IFALIAS") or ""
            if alias.startswith(_ALIAS):
                name = str(link.get_attr("IFLA_IFNAME"))
                found[name] = str(alias.removeprefix(_ALIAS))
    return found


def open_queues(name: str, count: int, features: Features) -> list[int]:
    """Descriptors for the engines, one a queue; the caller's. HostError."""
    with _errors(name), ExitStack() as on_fail:
        fds = []
        for _ in range(count):
            fd = _open(name)
            on_fail.callback(os.close, fd)
            fds.append(fd)
        fcntl.ioctl(fds[0], _TUNSETOFFLOAD, _offloads(features))
        on_fail.pop_all()
        return fds


def _offloads(features: Features) -> int:
    if not features.has_csum:
        return 0
    offloads = _CSUM
    if features.gso_tcpv4:
        offloads |= _TSO4 | _TSO_ECN
    if features.gso_tcpv6:
        offloads |= _TSO6 | _TSO_ECN
    return offloads


def _open(name: str) -> int:
    with ExitStack() as on_fail:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        on_fail.callback(os.close, fd)
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), _FLAGS))
        on_fail.pop_all()
        return fd


def _make(name: str) -> None:
    fd = _open(name)
    try:
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    finally:
        os.close(fd)


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """What the kernel refuses, in words."""
    try:
        yield
    except NetlinkError as error:
        raise HostError(f"{name}: {os.strerror(error.code)}") from error
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EBUSY):
            raise HostError(
                f"{name}: there is an interface of that name"
            ) from error
        if error.errno == errno.EPERM:
            raise HostError(f"{name}: CAP_NET_ADMIN is needed") from error
        raise HostError(f"{name}: {error.strerror}") from error


def _index(route: Any, name: str) -> int | None:
    found = route.link_lookup(ifname=name)
    return int(found[0]) if found else None


def _link_mtu(route: Any, index: int) -> int:
    return int(route.get_links(index)[0].get_attr("IFLA_MTU"))


def _place(route: Any, index: int, wishes: Wishes) -> Placed:
    """Into its bridge, if that is there; a tap has the bridge's MTU then."""
    if not wishes.bridge:
        return Placed(wishes.mtu or 1500)
    bridge = _index(route, wishes.bridge)
    if bridge is None:
        return Placed(wishes.mtu or 1500, missing=wishes.bridge)
    try:
        mtu = wishes.mtu or _link_mtu(route, bridge)
        # Before it is a member: a bridge takes the MTU of its smallest.
        route.link("set", index=index, mtu=mtu)
        route.link("set", index=index, master=bridge)
        if wishes.vlans:
            _set_vlans(route, index, bridge, wishes.vlans)
    except NetlinkError:
        # It may have gone just now.
        if index_of(wishes.bridge) == bridge:
            raise
        return Placed(wishes.mtu or 1500, missing=wishes.bridge)
    return Placed(mtu, bridge_index=bridge)


def _set_vlans(
    route: Any, index: int, bridge: int, vlans: tuple[Vlan, ...]
) -> None:
    info = route.get_links(bridge)[0].get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA")
    if not data.get_attr("IFLA_BR_VLAN_FILTERING"):
        raise HostError(
            "vlan= wants a bridge that filters VLANs",
            "ip link set BRIDGE type bridge vlan_filtering 1",
        )
    default = data.get_attr("IFLA_BR_VLAN_DEFAULT_PVID")
    if default and default not in [vlan.vid for vlan in vlans]:
        try:
            route.vlan_filter("del", index=index, vlan_info={"vid": default})
        except NetlinkError as error:
            # It is not there when this is done again.
            if error.code != errno.ENOENT:
                raise
    for vlan in vlans:
        flags = _BRIDGE_VLAN_UNTAGGED if vlan.is_untagged else 0
        flags |= _BRIDGE_VLAN_PVID if vlan.is_untagged else 0
        route.vlan_filter(
            "add", index=index, vlan_info={"vid": vlan.vid, "flags": flags}
        )


def _add_routes(route: Any, index: int, wishes: Wishes) -> None:
    """As Xen's vif-route: the guest's addresses lead to the tap, and the host
    answers there with the address of its gateway device."""
    gateway = _index(route, wishes.gateway)
    if gateway is None:
        raise HostError(f"gatewaydev {wishes.gateway} does not exist")
    own = [
        str(message.get_attr("IFA_ADDRESS"))
        for message in route.get_addr(index=gateway, family=2)
    ]
    if not own:
        raise HostError(f"gatewaydev {wishes.gateway} has no IPv4 address")
    route.addr("replace", index=index, address=own[0], prefixlen=32)
    for address in wishes.addresses:
        is_v6 = ":" in address
        words = {} if is_v6 else {"prefsrc": own[0]}
        bits = 128 if is_v6 else 32
        dst = address if "/" in address else f"{address}/{bits}"
        route.route("replace", dst=dst, oif=index, **words)
    proxy = Path(f"/proc/sys/net/ipv4/conf/{wishes.name}/proxy_arp")
    proxy.write_text("1")
