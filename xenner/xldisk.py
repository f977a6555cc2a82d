# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk as domain files spell it: xl-disk-configuration(5). Pure.

The order in which things are tried, and what is left of a prefix, are those
of Xen's libxlu_disk_l.l. Errors are ValueError: what is wrong, no place.

What a disk may do in a second has no spelling there: ours are LIMITS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PREFIXES = frozenset("tapdisk tap tap2 aio ioemu file phy".split())
_FORMATS = frozenset("raw qcow qcow2 vhd qed empty".split())
_SCRIPT_PREFIXES = frozenset("iscsi nbd enbd drbd".split())
_ACCESS = {"r": False, "ro": False, "w": True, "rw": True, "": True}
_FLAGS: dict[str, tuple[str, object]] = {
    "cdrom": ("is_cdrom", True),
    "devtype=cdrom": ("is_cdrom", True),
    "devtype=disk": ("is_cdrom", False),
    "direct-io-safe": ("is_direct_io_safe", True),
    "discard": ("discards", True),
    "no-discard": ("discards", False),
    "trusted": ("is_trusted", True),
    "untrusted": ("is_trusted", False),
    "no-colo": ("colo", ""),
    "grant_usage=1": ("grants", ""),
    "grant_usage=0": ("grants", ""),
}
_CLOSED: dict[str, tuple[str, ...]] = {
    "backendtype": ("phy", "tap", "qdisk"),
    "specification": ("xen", "virtio"),
    "devtype": (),  # The others are flags above.
}
LIMITS = ("iops-total", "iops-total-max", "bps-total", "bps-total-max")
"""Parameters, and the backend's nodes, with a number each: blkbackd(8)."""
_LIMIT_DIGITS = 18
_LETTERED = re.compile(r"(xvd|sd|hd)([a-z]+)([0-9]*)")
# As strtoul(3), below INT_MAX.
_HEXADECIMAL = re.compile(r"0[xX]0*[0-7]?[0-9a-fA-F]{1,7}")
_NUMBERED = re.compile(r"d([0-9]+)(?:p([0-9]+))?")
# "xvd" and "d" beyond 16 disks or 15 partitions: xen-vbd-interface(7).
_EXTENDED = 1 << 28


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of a guest; `target` is a file or a block device of the host."""

    target: str
    vdev: str
    devid: int
    """xenstore's `virtual-device`."""
    is_writable: bool = True
    is_cdrom: bool = False
    discards: bool = True
    is_direct_io_safe: bool = False
    is_trusted: bool = True
    format: str = "raw"
    is_qdisk: bool = False
    """QEMU serves it, as all that is not raw."""
    limits: tuple[tuple[str, int], ...] = ()
    """LIMITS that were given."""
    line: int = 0


def vdev_number(vdev: str) -> int:
    """The number of xvda, sda1, hdb, d2p3 or a bare number.

    xen-vbd-interface(7). ValueError if there is no such device.
    """
    if vdev.isascii() and vdev.isdigit() and len(vdev) < 10:
        return int(vdev)
    if _HEXADECIMAL.fullmatch(vdev):
        return int(vdev, 16)
    numbered = _NUMBERED.fullmatch(vdev)
    lettered = _LETTERED.fullmatch(vdev)
    if numbered is not None:
        kind, disk = "xvd", int(numbered[1])
        partition = int(numbered[2] or 0)
    elif lettered is not None:
        kind, disk = lettered[1], _disk_index(lettered[2])
        partition = int(lettered[3] or 0)
    else:
        raise ValueError(f"vdev {vdev!r}: no such device (xvda, sda1, d0p1)")
    number = _number_of(kind, disk, partition)
    if number is None:
        raise ValueError(f"vdev {vdev!r}: a number beyond the last")
    return number


def _disk_index(letters: str) -> int:
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("a") + 1
    return index - 1


def _number_of(kind: str, disk: int, partition: int) -> int | None:
    if kind == "xvd" and disk < 16 and partition < 16:
        return 202 << 8 | disk << 4 | partition
    if kind == "xvd" and disk < 1 << 20 and partition < 256:
        return _EXTENDED | disk << 8 | partition
    if kind == "sd" and disk < 16 and partition < 16:
        return 8 << 8 | disk << 4 | partition
    if kind == "hd" and disk < 4 and partition < 64:
        major = 3 if disk < 2 else 22
        return major << 8 | (disk & 1) << 6 | partition
    return None


def parse_disk(text: str, *, line: int = 0) -> Disk:
    """A disk from any of its spellings.

    ValueError for what xl refuses, and for what is not there: scripts, disks
    that other domains serve, empty drives.
    """
    spec = _Spec()
    rest = text.strip()
    while rest:
        rest = _step(spec, rest).lstrip()
    return _checked(spec, line)


class _Spec:
    """What has been said so far."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.has_prefix = False

    def set(self, name: str, value: object) -> None:
        before = self.values.get(name, "")
        if before not in ("", value):
            raise ValueError(f"{name} is given twice")
        self.values[name] = value


def _step(spec: _Spec, rest: str) -> str:
    """Take one parameter off `rest`; what is left of it."""
    if rest.startswith("target="):
        # It may contain anything, and is the last.
        spec.set("target", rest.removeprefix("target=").removesuffix(","))
        return ""
    prefix, colon, after = rest.partition(":")
    if colon and re.fullmatch(r"[a-z][a-z0-9]*", prefix):
        if _take_prefix(spec, prefix):
            return after
        if not re.match(r"[a-z0-9]", after):
            raise ValueError(f"{prefix}: is no prefix that anybody knows")
    word, _, after = rest.partition(",")
    word = word.strip()
    if word in _FLAGS:
        name, value = _FLAGS[word]
        spec.values[name] = value
    elif "=" in word:
        _take_named(spec, *word.split("=", 1))
    else:
        _take_positional(spec, word)
    return after


def _take_prefix(spec: _Spec, prefix: str) -> bool:
    if prefix in _FORMATS:
        spec.set("format", prefix)
    elif prefix in _SCRIPT_PREFIXES:
        spec.set("script", f"block-{prefix}")
    elif prefix not in _PREFIXES:
        return False
    spec.has_prefix = True
    return True


def _take_named(spec: _Spec, name: str, value: str) -> None:
    if name == "access":
        spec.values["access"] = _access(value)
    elif name == "format":
        spec.set("format", _format(value))
    elif name in _CLOSED and value not in _CLOSED[name]:
        raise ValueError(f"{name}={value}: no such {name}")
    elif name in ("vdev", "script", "backend", *_CLOSED):
        spec.set(name, value)
    elif name in LIMITS:
        spec.set(name, _limit(name, value))
    else:
        raise ValueError(f"{name}= is no parameter of a disk")


def _take_positional(spec: _Spec, word: str) -> None:
    """target, format, vdev, access: those that were not named, in order."""
    values = spec.values
    if "target" not in values:
        values["target"] = word
    elif not spec.has_prefix and "format" not in values:
        if not values["target"] and ":" in word:
            _take_vdev(spec, word)
            values["format"] = "empty"
        else:
            values["format"] = _format(word)
    elif "vdev" not in values:
        _take_vdev(spec, word)
    elif "access" not in values:
        values["access"] = _access(word)
    else:
        raise ValueError(f"{word!r} is one parameter too many")


def _take_vdev(spec: _Spec, word: str) -> None:
    vdev, _, kind = word.partition(":")
    if kind not in ("", "cdrom", "disk"):
        raise ValueError(f"{word}: neither :cdrom nor :disk")
    spec.set("vdev", vdev)
    if kind:
        spec.values["is_cdrom"] = kind == "cdrom"


def _limit(name: str, value: str) -> int:
    is_number = value.isascii() and value.isdigit()
    if not is_number or len(value) > _LIMIT_DIGITS:
        raise ValueError(f"{name}={value}: no number per second")
    return int(value)


def _access(value: str) -> bool:
    if value not in _ACCESS:
        raise ValueError(f"access {value!r}: use r, ro, w or rw")
    return _ACCESS[value]


def _format(value: str) -> str:
    if value and value not in _FORMATS:
        raise ValueError(f"format {value!r}: no such format")
    return value or "raw"


def _checked(spec: _Spec, line: int) -> Disk:
    values = spec.values
    kind = str(values.get("format") or "raw")
    target, vdev = str(values.get("target", "")), str(values.get("vdev", ""))
    if kind == "empty" or (values.get("is_cdrom") and not target):
        raise ValueError("a drive without a medium is not there")
    if values.get("backendtype") == "tap":
        raise ValueError("backendtype=tap: there is no blktap")
    is_qdisk = kind != "raw" or values.get("backendtype") == "qdisk"
    if is_qdisk and values.get("backendtype") == "phy":
        raise ValueError(f"backendtype=phy: format {kind} needs qdisk")
    limits = tuple(
        (name, int(str(values[name]))) for name in LIMITS if name in values
    )
    if is_qdisk and limits:
        raise ValueError(f"{limits[0][0]}: qdisk has no limits")
    if values.get("specification") == "virtio":
        raise ValueError("specification=virtio: a PV guest has Xen's disks")
    if values.get("script", "block") not in ("block", ""):
        raise ValueError(f"script {values['script']}: no scripts are run")
    if values.get("backend", "0") not in ("0", "Domain-0"):
        raise ValueError("backend: only domain 0 serves disks")
    if not target:
        raise ValueError("no target: which file or device is it?")
    if not vdev:
        raise ValueError("no vdev: as what does the guest see it?")
    is_cdrom = bool(values.get("is_cdrom", False))
    return Disk(
        target=target,
        vdev=vdev,
        devid=vdev_number(vdev),
        is_writable=bool(values.get("access", True)) and not is_cdrom,
        is_cdrom=is_cdrom,
        discards=bool(values.get("discards", True)),
        is_direct_io_safe=bool(values.get("is_direct_io_safe", False)),
        is_trusted=bool(values.get("is_trusted", True)),
        format=kind,
        is_qdisk=is_qdisk,
        limits=limits,
        line=line,
    )
