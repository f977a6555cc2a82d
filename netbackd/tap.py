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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netbackd.config import VifConfig, Vlan
from netbackd.frontend import Features
from xenner import abi
from xenner.errors import HostError, host_error

_FLAGS = abi.IFF_TAP | abi.IFF_NO_PI | abi.IFF_VNET_HDR | abi.IFF_MULTI_QUEUE
# struct ifreq of net/if.h: the name, and flags in what is a union.
_IFREQ, _NAME_BYTES = struct.Struct("16sH22x"), 16

# As Xen's scripts: a bridge has the address of its lowest member, and that is
# to be none of these.
_HOST_MAC = "fe:ff:ff:ff:ff:ff"
# In the link's alias, to know them again.
_ALIAS = "xenner "
_TAKEN = "there is an interface of that name"
_DEFAULT_MTU = 1500
_BRIDGE_VLAN_PVID, _BRIDGE_VLAN_UNTAGGED = 2, 4

# vif-route's, for a vif that is no emulated card's.
_METRIC = 2
_GLOBAL = 0  # RT_SCOPE_UNIVERSE, linux/rtnetlink.h
_IFA_F_NODAD = 2  # linux/if_addr.h


@dataclass(frozen=True, slots=True)
class _Family:
    number: int
    bits: int


_FAMILIES = {4: _Family(socket.AF_INET, 32), 6: _Family(socket.AF_INET6, 128)}


@dataclass(frozen=True, slots=True)
class Tap:
    """One of ours: its index is its own as long as it is there, its name may be
    changed; `path` is its device's."""

    index: int
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Placed:
    """What has become of a tap and its surroundings. `missing` names the bridge
    that does not exist (yet), else empty; `bridge_index` is that of the one it
    is in, else 0. `is_new`: it was not there before."""

    tap: Tap
    is_new: bool
    missing: str = ""
    bridge_index: int = 0


def make_tap(
    config: VifConfig, path: str, is_gone: Callable[[str], bool]
) -> Placed:
    """Make the tap of the device at `path`, or find it, and put it where it
    belongs. To be called again when a bridge has appeared. A tap of that name
    makes room if its device, at another path, is gone.

    HostError: the name is somebody else's, or it cannot be had as wished; what
    was made for it is gone again.
    """
    with _errors(config.name), ExitStack() as opened, IPRoute() as route:
        tap = _find(route, config, path, is_gone)
        if tap is not None:
            return _place(route, config, tap, is_new=False)
        # It stays when all is done: until then it goes with its descriptor.
        fd = _open(config.name)
        opened.callback(os.close, fd)
        tap = _adopt(route, config.name, path)
        placed = _place(route, config, tap, is_new=True)
        fcntl.ioctl(fd, abi.TUNSETPERSIST, 1)
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
            flags = fcntl.ioctl(link, abi.SIOCGIFFLAGS, request)
            mtu = fcntl.ioctl(link, abi.SIOCGIFMTU, request)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return None
    is_up = bool(_IFREQ.unpack(flags)[1] & abi.IFF_UP)
    return Link(is_up, struct.unpack_from("i", mtu, _NAME_BYTES)[0])


def index_of(name: str) -> int:
    """An interface's index, which changes when it is recreated; 0: there is
    none. Does not block."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def name_of(tap: Tap) -> str:
    """Its present one; "": it is not there any more. Does not block."""
    try:
        return socket.if_indextoname(tap.index)
    except OSError:
        return ""


def remove_tap(tap: Tap) -> None:
    """It is not there any more; one that has gone by itself is fine."""
    with _errors(tap.name), IPRoute() as route:
        if _path_at(route, tap.index) == tap.path:
            _delete(route, tap.index)


def our_taps() -> list[Tap]:
    """Those that make_tap() has made."""
    with _errors("links"), IPRoute() as route:
        return [
            Tap(link["index"], str(link.get_attr("IFLA_IFNAME")), path)
            for link in route.get_links()
            if (path := _path_of(link))
        ]


def open_queues(name: str, count: int, features: Features) -> list[int]:
    """Descriptors for the engines, one a queue; the caller's. HostError."""
    with _errors(name), ExitStack() as on_fail:
        fds = []
        for _ in range(count):
            fd = _open(name)
            on_fail.callback(os.close, fd)
            fds.append(fd)
        fcntl.ioctl(fds[0], abi.TUNSETOFFLOAD, _offloads(features))
        on_fail.pop_all()
        return fds


def _offloads(features: Features) -> int:
    if not features.has_csum:
        return 0
    offloads = abi.TUN_F_CSUM
    if features.gso_tcpv4:
        offloads |= abi.TUN_F_TSO4 | abi.TUN_F_TSO_ECN
    if features.gso_tcpv6:
        offloads |= abi.TUN_F_TSO6 | abi.TUN_F_TSO_ECN
    return offloads


def _open(name: str) -> int:
    with ExitStack() as on_fail:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        on_fail.callback(os.close, fd)
        fcntl.ioctl(fd, abi.TUNSETIFF, _IFREQ.pack(name.encode(), _FLAGS))
        on_fail.pop_all()
        return fd


def _path_of(link: Any) -> str:
    """Of its device; "": it is none of ours."""
    alias = str(link.get_attr("IFLA_IFALIAS") or "")
    return alias.removeprefix(_ALIAS) if alias.startswith(_ALIAS) else ""


def _path_at(route: Any, index: int) -> str | None:
    """Likewise; None: there is no link of that index."""
    try:
        (link,) = route.get_links(index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
        return None
    return _path_of(link)


def _delete(route: Any, index: int) -> None:
    try:
        route.link("del", index=index)
    except NetlinkError as error:
        # Its own device's task may have been faster.
        if error.code != errno.ENODEV:
            raise


def _find(
    route: Any, config: VifConfig, path: str, is_gone: Callable[[str], bool]
) -> Tap | None:
    """The device's tap, if it is there already. HostError: its name is that of
    something else."""
    for name in filter(None, (config.name, config.later_name)):
        index = _index(route, name)
        if index is None:
            continue
        owner = _path_at(route, index)
        if owner == path:
            return Tap(index, name, path)
        if owner and is_gone(owner):
            _delete(route, index)
        elif owner is not None and name == config.name:
            raise HostError(f"{name}: {_TAKEN}")
    return None


def _adopt(route: Any, name: str, path: str) -> Tap:
    """A tap that was made just now is marked as ours."""
    index = _index(route, name)
    assert index is not None
    route.link("set", index=index, ifalias=_ALIAS + path, address=_HOST_MAC)
    return Tap(index, name, path)


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """What the kernel refuses, in words."""
    try:
        yield
    except NetlinkError as error:
        raise HostError(f"{name}: {os.strerror(error.code)}") from error
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EBUSY):
            raise HostError(f"{name}: {_TAKEN}") from error
        if error.errno == errno.EPERM:
            raise HostError(f"{name}: CAP_NET_ADMIN is needed") from error
        if error.errno == errno.EACCES:
            raise HostError(
                f"{name}: /dev/net/tun is not ours to open"
            ) from error
        raise host_error(error.errno or 0, name) from error


def _index(route: Any, name: str) -> int | None:
    found = route.link_lookup(ifname=name)
    return int(found[0]) if found else None


def _link_mtu(route: Any, index: int) -> int:
    return int(route.get_links(index)[0].get_attr("IFLA_MTU"))


def _place(route: Any, config: VifConfig, tap: Tap, *, is_new: bool) -> Placed:
    """Where it belongs, and up there, unless a script does that."""
    index, mtu = tap.index, config.mtu
    missing, bridge = "", 0
    if config.bridge:
        bridge = _index(route, config.bridge) or 0
        if not bridge or not _join(route, config, index, bridge):
            missing, bridge = config.bridge, 0
    elif not mtu and not config.script:
        mtu = _DEFAULT_MTU
    if mtu:
        route.link("set", index=index, mtu=mtu)
    _ignore_routers(tap.name)
    # A script finds it down, so that it can be renamed, and brings it up.
    if not config.script:
        # Outside its bridge it would lead to the host itself.
        state = "down" if missing else "up"
        route.link("set", index=index, state=state)
    if config.gateway:
        _add_routes(route, tap, config)
    return Placed(tap, is_new, missing, bridge)


def _join(route: Any, config: VifConfig, index: int, bridge: int) -> bool:
    """Into the bridge, whose MTU it has if none is wished. False: that has gone
    just now."""
    try:
        link = route.get_links(index)[0]
        mtu = config.mtu or _link_mtu(route, bridge)
        # Before it is a member: a bridge takes the MTU of its smallest.
        route.link("set", index=index, mtu=mtu)
        if link.get_attr("IFLA_MASTER") != bridge:
            # It is in no VLAN but its own, not for a moment.
            route.link("set", index=index, state="down")
            route.link("set", index=index, master=bridge)
        if config.vlans:
            _set_vlans(route, index, bridge, config.vlans)
    except NetlinkError as error:
        if index_of(config.bridge) != bridge:
            return False
        raise HostError(
            f"{config.name} cannot be a port of {config.bridge}: "
            f"{os.strerror(error.code)}",
            "is that a bridge?",
        ) from error
    return True


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


def _add_routes(route: Any, tap: Tap, config: VifConfig) -> None:
    """As Xen's vif-route: the guest's addresses lead to the tap, and the host
    answers there with the address of its gateway device."""
    gateway = _index(route, config.gateway)
    if gateway is None:
        raise HostError(f"gatewaydev {config.gateway} does not exist")
    own = {
        version: _own_address(route, gateway, version) for version in _FAMILIES
    }
    versions = {network.version for network in config.networks} or {4}
    # A guest's gateway of IPv6 may be the tap's link-local address.
    if 4 in versions and not own[4]:
        raise HostError(f"gatewaydev {config.gateway} has no IPv4 address")
    for version in versions:
        if address := own[version]:
            route.addr(
                "replace",
                index=tap.index,
                address=address,
                prefixlen=_FAMILIES[version].bits,
                ifa_flags=_IFA_F_NODAD,
            )
    for network in config.networks:
        _add_route(route, tap, network, own[network.version])
    if 4 in versions:
        _set_sysctl(f"ipv4/conf/{tap.name}/proxy_arp", "1")


def _ignore_routers(name: str) -> None:
    """A guest is nobody's router: it must not give the host routes."""
    setting = f"ipv6/conf/{name}/accept_ra"
    # A link whose MTU is too small for IPv6 has none, until that is raised.
    if Path("/proc/sys/net", setting).exists():
        _set_sysctl(setting, "0")


def _set_sysctl(name: str, value: str) -> None:
    path = Path("/proc/sys/net", name)
    try:
        path.write_text(value)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from error


def _own_address(route: Any, index: int, version: int) -> str:
    """An interface's first; "": it has none."""
    family = _FAMILIES[version].number
    for message in route.get_addr(index=index, family=family, scope=_GLOBAL):
        # The other one is the peer's where there is a peer.
        for name in ("IFA_LOCAL", "IFA_ADDRESS"):
            if address := message.get_attr(name):
                return str(address)
    return ""


def _add_route(
    route: Any, tap: Tap, network: IPv4Network | IPv6Network, own: str
) -> None:
    which = {"dst": str(network), "priority": _METRIC}
    source = {"prefsrc": own} if own else {}
    try:
        route.route("add", oif=tap.index, **which, **source)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        family = _FAMILIES[network.version].number
        found = route.get_routes(family=family, **which)
        if tap.index not in [r.get_attr("RTA_OIF") for r in found]:
            raise HostError(f"ip {network} is another one's") from error
        route.route("replace", oif=tap.index, **which, **source)
