# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks and interfaces on the command line of `xenner`: qemu's manner, or xl's
own words. Pure."""

from __future__ import annotations

from collections.abc import Callable

from xenner.errors import ConfigError
from xenner.xldisk import Disk, parse_disk
from xenner.xlvif import Vif, parse_vif

_LETTERS = "abcdefghijklmnop"
# As on a PC: the third one.
_CDROM_INDEX = 2
_YES = {"on": True, "yes": True, "off": False, "no": False}
_NIC_NAMES = {"br": "bridge", "ifname": "vifname"}


class Devices:
    """What the options name, in their order."""

    def __init__(self) -> None:
        self.disks: list[Disk] = []
        self.vifs: list[Vif] = []

    def takes(self, name: str) -> bool:
        """Is it an option that names a device?"""
        return name in _OPTIONS

    def add(self, name: str, value: str) -> None:
        """One more. ConfigError: there is no such device, or it is there."""
        try:
            _OPTIONS[name](self, value)
        except ValueError as error:
            raise ConfigError(f"-{name} {value}: {error}") from None

    def add_disk(self, spec: str) -> None:
        """One in xl's words. ValueError."""
        disk = parse_disk(spec)
        if any(disk.devid == other.devid for other in self.disks):
            raise ValueError(f"{disk.vdev} is there already")
        self.disks.append(disk)

    def free_index(self) -> int:
        """Of the lowest xvd that is not there. ValueError: all are."""
        taken = {disk.vdev for disk in self.disks}
        for index, letter in enumerate(_LETTERS):
            if f"xvd{letter}" not in taken:
                return index
        raise ValueError("there are sixteen; -disk gives more")


def _disk_spec(
    path: str,
    index: int,
    *,
    kind: str = "raw",
    is_writable: bool = True,
    is_cdrom: bool = False,
) -> str:
    if not 0 <= index < len(_LETTERS):
        raise ValueError(f"index {index}: 0 to {len(_LETTERS) - 1}")
    words = [f"vdev=xvd{_LETTERS[index]}", f"format={kind}"]
    words.append(f"access={'rw' if is_writable and not is_cdrom else 'ro'}")
    words += ["cdrom"] if is_cdrom else []
    # The last word's is all that follows, commas too.
    return ",".join([*words, f"target={path}"])


def _hd(index: int) -> Callable[[Devices, str], None]:
    def add(devices: Devices, value: str) -> None:
        devices.add_disk(_disk_spec(value, index))

    return add


def _cdrom(devices: Devices, value: str) -> None:
    devices.add_disk(_disk_spec(value, _CDROM_INDEX, is_cdrom=True))


def _drive(devices: Devices, value: str) -> None:
    """qemu's `file=PATH,format=qcow2,readonly=on,index=1,media=cdrom`."""
    # Two commas are one of a path's, as qemu has it.
    words = value.replace(",,", "\0").split(",")
    given = dict(word.replace("\0", ",").partition("=")[::2] for word in words)
    unknown = given.keys() - {
        *("file", "format", "readonly", "index", "media", "if"),
    }
    if unknown:
        raise ValueError(f"{min(unknown)}: not known; -disk has xl's words")
    if given.get("if", "xen") not in ("xen", "none"):
        raise ValueError(f"if={given['if']}: a PV guest has Xen's disks only")
    if not given.get("file"):
        raise ValueError("file=PATH is missing")
    is_cdrom = given.get("media", "disk") == "cdrom"
    readonly = given.get("readonly", "off")
    if readonly not in _YES:
        raise ValueError(f"readonly={readonly}: on or off")
    index = given.get("index", "")
    if index and not (index.isascii() and index.isdigit()):
        raise ValueError(f"index={index}: not a number")
    devices.add_disk(
        _disk_spec(
            given["file"],
            int(index) if index else devices.free_index(),
            kind=given.get("format", "raw"),
            is_writable=not _YES[readonly],
            is_cdrom=is_cdrom,
        )
    )


def _nic(devices: Devices, value: str) -> None:
    """xl's words, or qemu's `bridge,br=xenbr0,mac=...`."""
    words = value.split(",")
    if words[0] == "none":
        return
    if words[0] in ("user", "passt", "socket", "l2tpv3"):
        raise ValueError(f"{words[0]}: an interface is in a bridge or routed")
    if words[0] in ("bridge", "tap"):
        del words[0]
    renamed = []
    for word in words:
        name, equals, text = word.partition("=")
        renamed.append(f"{_NIC_NAMES.get(name, name)}{equals}{text}")
    devices.vifs.append(parse_vif(",".join(renamed), devid=len(devices.vifs)))


_OPTIONS: dict[str, Callable[[Devices, str], None]] = {
    **{f"hd{letter}": _hd(i) for i, letter in enumerate("abcd")},
    "cdrom": _cdrom,
    "drive": _drive,
    "disk": Devices.add_disk,
    "nic": _nic,
}
