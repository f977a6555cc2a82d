# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that were plugged in or out while a guest ran.

They stand in its record, and are those of the guest when it is started again;
one that has ended for good takes them along, as libxl's do with its userdata.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xenner.errors import ConfigError
from xenner.types import Domid
from xenner.xlcfg import DomainConfig
from xenner.xldisk import parse_disk
from xenner.xlvif import parse_vif
from xennerd.domain.records import change_record


def remember(
    runtime_dir: Path, domid: Domid, kind: str, devid: int, spec: str = ""
) -> None:
    """A device was plugged in, spelled as in a domain file, or out: no `spec`.

    Nothing is written down of a guest without a record: it has no file that
    it is started again from. HostError: it could not be written.
    """
    change_record(
        runtime_dir,
        domid,
        lambda record: replace(
            record, plugged=with_device(record.plugged, kind, devid, spec)
        ),
    )


def with_device(
    plugged: tuple[str, ...], kind: str, devid: int, spec: str = ""
) -> tuple[str, ...]:
    """A record's `plugged` with what became of one more. Pure."""
    name = f"{kind} {devid}"
    kept = (word for word in plugged if word.split(" ")[:2] != name.split())
    return (*kept, f"{name} {spec}")


def with_plugged(
    config: DomainConfig, plugged: tuple[str, ...]
) -> DomainConfig:
    """The domain of a file with the devices that it has by now. Pure.
    ConfigError: the record has what nobody could have plugged in."""
    disks = {disk.devid: disk for disk in config.disks}
    vifs = {vif.devid: vif for vif in config.vifs}
    for word in plugged:
        kind, _, rest = word.partition(" ")
        number, _, spec = rest.partition(" ")
        try:
            devid = int(number)
            if kind == "vbd":
                disks.pop(devid, None)
                if spec:
                    disks[devid] = parse_disk(spec)
            elif kind == "vif":
                vifs.pop(devid, None)
                if spec:
                    vifs[devid] = parse_vif(spec, devid=devid)
            else:
                raise ValueError("no kind of device")
        except ValueError as error:
            raise ConfigError(f"plugged in: {word!r}: {error}") from None
    return replace(
        config, disks=tuple(disks.values()), vifs=tuple(vifs.values())
    )
