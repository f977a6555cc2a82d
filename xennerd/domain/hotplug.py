# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that were plugged in or out while a guest ran.

The domain's record lists them, so a restarted guest has them again. They are
lost when the domain ends for good, as with libxl's userdata.
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


def record_hotplug(
    runtime_dir: Path, domid: Domid, kind: str, devid: int, spec: str = ""
) -> None:
    """Record a device that was plugged in, with `spec` as in a domain file, or
    out, without `spec`.

    Does nothing for a guest without a record: it does not restart from a file.
    HostError: the record could not be written.
    """
    change_record(
        runtime_dir,
        domid,
        lambda record: replace(
            record,
            plugged=record_with_device(record.plugged, kind, devid, spec),
        ),
    )


def record_with_device(
    plugged: tuple[str, ...], kind: str, devid: int, spec: str = ""
) -> tuple[str, ...]:
    """A record's `plugged` with one more change. Pure."""
    name = f"{kind} {devid}"
    kept = (word for word in plugged if word.split(" ")[:2] != name.split())
    return (*kept, f"{name} {spec}")


def with_hotplug(
    config: DomainConfig, plugged: tuple[str, ...]
) -> DomainConfig:
    """A file's domain with the devices that the record lists. Pure.
    ConfigError: the record lists an invalid device."""
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
