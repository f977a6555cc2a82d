# SPDX-License-Identifier: GPL-2.0-or-later
"""A network interface as domain files spell it. Pure.

xl-network-configuration(5). Errors are ValueError: what is wrong, no place.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass

# As xl, which takes anything between the pairs.
_MAC = re.compile(r"[0-9a-fA-F]{1,2}(?:[^0-9a-fA-F\s][0-9a-fA-F]{1,2}){5}")
_NAME = re.compile(r"[^\s/:%]{1,15}")
_RATE = re.compile(r"([0-9]+)([GMK]?)([Bb])/s(?:@([0-9]+)([mu]?)s?)?")
_FACTOR = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_USEC = {"": 10**6, "m": 10**3, "u": 1}
_DEFAULT_INTERVAL = ("50", "m")
_MAX_INTERVAL_US = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Rate:
    """So many bytes in each interval, as netback counts."""

    nr_bytes: int
    interval_us: int


@dataclass(frozen=True, slots=True)
class Vif:
    """A network interface of a guest."""

    devid: int
    mac: str = ""
    """Lower case, six pairs of digits; "": to be chosen (vif_mac())."""
    bridge: str = "xenbr0"
    gatewaydev: str = ""
    ips: tuple[str, ...] = ()
    script: str = "vif-bridge"
    vifname: str = ""
    rate: Rate | None = None
    mtu: int = 1500
    vlan: str = ""
    is_trusted: bool = True
    line: int = 0

    @property
    def has_xens_script(self) -> bool:
        """Is it one of Xen's own, whose work we do? To any other `bridge` is
        what it makes of it: a switch and its VLANs."""
        name = self.script.rpartition("/")[2]
        return name in ("", "vif-bridge", "vif-route")


def vif_mac(vif: Vif, *, seed: bytes) -> str:
    """The interface's address; one not given follows from the domain's.

    Xen's prefix 00:16:3e and 23 bits: with the same `seed`, the domain's
    handle, the guest sees the same card at every start.
    """
    if vif.mac:
        return vif.mac
    digest = hashlib.sha256(seed + vif.devid.to_bytes(4, "little")).digest()
    return f"00:16:3e:{digest[0] & 0x7F:02x}:{digest[1]:02x}:{digest[2]:02x}"


def parse_rate(text: str) -> Rate:
    """`10Mb/s`, `250KB/s@20ms`: bits or bytes, 1 K is 1000.

    Without an interval it is 50 ms, as xl has it.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"rate {text!r}: as 10Mb/s or 250KB/s@20ms")
    per_second = int(match[1]) * _FACTOR[match[2]]
    if match[3] == "b":
        per_second //= 8
    count, unit = _DEFAULT_INTERVAL
    if match[4] is not None:
        count, unit = match[4], match[5]
    interval_us = int(count) * _USEC[unit]
    nr_bytes = per_second * interval_us // 10**6
    if not 0 < interval_us <= _MAX_INTERVAL_US or not 0 < nr_bytes < 1 << 64:
        raise ValueError(f"rate {text!r}: out of range")
    return Rate(nr_bytes, interval_us)


def parse_vif(text: str, *, devid: int, line: int = 0) -> Vif:
    """An interface from its comma list; `devid` is its place in the file.

    ValueError for what xl refuses, and for interfaces that are emulated or
    that another domain serves.
    """
    values: dict[str, object] = {"devid": devid, "line": line}
    for word in filter(None, map(str.strip, text.split(","))):
        name, equals, value = word.partition("=")
        name, value = name.strip(), value.strip()
        if word in ("trusted", "untrusted"):
            values["is_trusted"] = word == "trusted"
        elif not equals:
            raise ValueError(f"{word!r}: as name=value")
        else:
            values |= _parameter(name, value)
    vif = Vif(**values)  # type: ignore[arg-type]
    if vif.has_xens_script:
        _device_name("bridge", vif.bridge)
        _check_ips(vif.ips)
    return vif


def _parameter(name: str, value: str) -> dict[str, object]:
    match name:
        case "mac":
            return {"mac": _mac(value)}
        case "ip":
            return {"ips": tuple(value.split())}
        case "rate":
            return {"rate": parse_rate(value)}
        case "gatewaydev" | "netdev" | "vifname":
            # netdev is what xl once called it, and takes with a warning.
            name = "gatewaydev" if name == "netdev" else name
            return {name: _device_name(name, value)}
        case "bridge" | "script" | "vlan":
            return {name: value}
        case "mtu":
            return {"mtu": _number(name, value, 68, 65535)}
        case "devid":
            return {"devid": _number(name, value, 0, 65535)}
    _check_needless(name, value)
    return {}


def _check_needless(name: str, value: str) -> None:
    """What says no more than what is so anyway."""
    if name == "type" and value not in ("vif", ""):
        raise ValueError(f"type={value}: a PV guest has no emulated cards")
    if name == "backend" and value not in ("0", "Domain-0"):
        raise ValueError("backend: only domain 0 serves interfaces")
    # xl says that accel is not supported, and goes on.
    if name not in ("type", "backend", "model", "accel"):
        raise ValueError(f"{name}= is no parameter of an interface")


def _mac(value: str) -> str:
    if not _MAC.fullmatch(value):
        raise ValueError(f"mac {value!r}: six pairs of hexadecimal digits")
    pairs = [int(pair, 16) for pair in re.findall("[0-9a-fA-F]+", value)]
    if pairs[0] & 1:
        raise ValueError(f"mac {value}: a group's address, not a card's")
    return ":".join(f"{pair:02x}" for pair in pairs)


def _check_ips(addresses: tuple[str, ...]) -> None:
    """A network's prefix may follow."""
    for address in addresses:
        try:
            ipaddress.ip_interface(address)
        except ValueError:
            raise ValueError(f"ip {address!r}: not an address") from None


def _device_name(name: str, value: str) -> str:
    # What the kernel takes, dev_valid_name() of net/core/dev.c, and takes as
    # it is: from a % it makes a number.
    if not _NAME.fullmatch(value) or value in (".", ".."):
        raise ValueError(f"{name} {value!r}: not a name of a network device")
    return value


def _number(name: str, value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 9):
        raise ValueError(f"{name} {value!r}: not a number")
    if not low <= int(value) <= high:
        raise ValueError(f"{name} {value}: must be {low} to {high}")
    return int(value)
