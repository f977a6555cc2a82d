# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables as xl prints them, column for column: programs read them. Pure.

The formats are those of tools/xl in Xen (xl_list.c, xl_vcpu.c, xl_info.c,
xl_block.c, xl_nic.c).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from xenner.types import Domid
from xenner.xlcfg import DomainConfig
from xenner.xlvif import vif_mac
from xennerd.ctl.domains import Domain

_LIST_HEADER = (
    "Name                                        ID   Mem VCPUs\tState\tTime(s)"
)


@dataclass(frozen=True, slots=True)
class Columns:
    """What `xl list` has besides."""

    is_verbose: bool = False
    has_context: bool = False
    has_pool: bool = False
    has_node: bool = False


def list_lines(
    domains: Iterable[Domain], columns: Columns = Columns()
) -> Iterator[str]:
    """`xl list`, -v, -Z, -c, -n. All guests are in one pool and on all nodes,
    as far as anybody here knows."""
    header = _LIST_HEADER
    if columns.is_verbose:
        header += (
            "   UUID                            Reason-Code\tSecurity Label"
        )
    elif columns.has_context:
        header += "   Security Label"
    if columns.has_pool:
        header += "         Cpupool"
    if columns.has_node:
        header += " NODE Affinity"
    yield header
    for domain in domains:
        line = (
            f"{domain.name:<40} {domain.domid:5} {domain.memory_mib:5} "
            f"{len(domain.vcpus):5}     {domain.state}  {domain.cpu_s:8.1f}"
        )
        if columns.is_verbose:
            line += f" {domain.handle} {'-':>16} {'-':>16}"
        elif columns.has_context:
            line += f" {'-':>16}"
        if columns.has_pool:
            line += f"{'Pool-0':>16}"
        if columns.has_node:
            line += " any node"
        yield line


def long_list(
    domains: Iterable[Domain], configs: Mapping[Domid, DomainConfig]
) -> list[dict[str, object]]:
    """`xl list -l`, what of libxl's structures is known here. `configs`:
    those of domains that have a file."""
    return [
        {
            "domid": domain.domid,
            "config": {
                "c_info": {
                    "type": "pv",
                    "name": domain.name,
                    "uuid": domain.handle,
                },
                "b_info": {
                    "max_vcpus": len(domain.vcpus),
                    "avail_vcpus": [vcpu.number for vcpu in domain.vcpus],
                    "max_memkb": domain.max_memory_mib << 10,
                    "target_memkb": domain.memory_mib << 10,
                    **(_boot(config) if config else {}),
                },
                # Programs go through them unasked.
                "disks": [],
                "nics": [],
                **(_devices(domain.handle, config) if config else {}),
            },
        }
        for domain in domains
        for config in [configs.get(domain.domid)]
    ]


def _boot(config: DomainConfig) -> dict[str, object]:
    """Of libxl_domain_build_info."""
    return {
        "kernel": config.kernel,
        "ramdisk": config.ramdisk,
        "cmdline": config.cmdline,
        "type.pv": {},
    }


def planned_config(config: DomainConfig, handle: str) -> dict[str, object]:
    """The same of one that does not live: `xl create --dryrun`. Programs take
    its name from a line of its own that ends with a comma."""
    return {
        "c_info": {"type": "pv", "name": config.name, "uuid": handle},
        "b_info": {
            "max_vcpus": config.max_vcpus,
            "avail_vcpus": list(range(config.nr_vcpus)),
            "max_memkb": config.maxmem_mib << 10,
            "target_memkb": config.memory_mib << 10,
            **_boot(config),
        },
        **_devices(handle, config),
    }


def _devices(handle: str, config: DomainConfig) -> dict[str, object]:
    """Of libxl_domain_config."""
    seed = uuid.UUID(handle).bytes if handle else b""
    return {
        "disks": [
            {
                "pdev_path": disk.target,
                "vdev": disk.vdev,
                "backend": "qdisk" if disk.is_qdisk else "phy",
                "format": disk.format,
                "readwrite": int(disk.is_writable),
                "is_cdrom": int(disk.is_cdrom),
            }
            for disk in config.disks
        ],
        "nics": [
            {
                "devid": vif.devid,
                "mtu": vif.mtu,
                "mac": vif_mac(vif, seed=seed),
                "bridge": vif.bridge,
                "script": vif.script,
                "nictype": "vif",
                **({"ip": " ".join(vif.ips)} if vif.ips else {}),
                **({"ifname": vif.vifname} if vif.vifname else {}),
            }
            for vif in config.vifs
        ],
        "on_poweroff": str(config.on_poweroff),
        "on_reboot": str(config.on_reboot),
        "on_watchdog": str(config.on_watchdog),
        "on_crash": str(config.on_crash),
    }


def vcpu_lines(domains: Iterable[Domain]) -> Iterator[str]:
    """`xl vcpu-list`."""
    yield (
        f"{'Name':<32} {'ID':>5} {'VCPU':>5} {'CPU':>5} {'State':>5} "
        f"{'Time(s)':>9} Affinity (Hard / Soft)"
    )
    for domain in domains:
        for vcpu in domain.vcpus:
            state = "r--" if vcpu.is_running else "-b-"
            if domain.is_paused:
                state = "--p"
            if domain.is_silent or domain.end:
                state = "---"
            yield (
                f"{domain.name:<32} {domain.domid:5} {vcpu.number:5} "
                f"{vcpu.host_cpu:5} {state:>5} {vcpu.cpu_s:9.1f} all / all"
            )


def duration(seconds: float) -> str:
    """`2:27:44`, `1 day, 2:03:04`, `98 days, 2:27:44`."""
    days, rest = divmod(int(seconds), 86400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    if not days:
        return clock
    return f"{days} day{'s' if days > 1 else ''}, {clock}"


def uptime_lines(domains: Iterable[Domain]) -> Iterator[str]:
    """`xl uptime`."""
    yield f"{'Name':<33} {'ID':>4} Uptime"
    for domain in domains:
        yield f"{domain.name:<33} {domain.domid:4} {duration(domain.uptime_s)}"


def short_uptime_lines(domains: Iterable[Domain], now: str) -> Iterator[str]:
    """`xl uptime -s`; `now` is the time of day."""
    for domain in domains:
        # Without the seconds.
        up = duration(domain.uptime_s).rpartition(":")[0]
        yield f" {now} up {up}, {domain.name} ({domain.domid})"


@dataclass(frozen=True, slots=True)
class Node:
    """A NUMA node of the host."""

    number: int
    memory_mib: int
    free_mib: int
    distances: tuple[int, ...]


def numa_lines(nodes: Iterable[Node]) -> Iterator[str]:
    """`xl info -n`."""
    yield f"{'numa_info':<22} :"
    yield "node:    memsize    memfree    distances"
    for node in nodes:
        yield (
            f"{node.number:4}:    {node.memory_mib:6}     {node.free_mib:6}"
            f"      {','.join(map(str, node.distances))}"
        )


def info_lines(facts: Mapping[str, object]) -> Iterator[str]:
    """`xl info`."""
    for key, value in facts.items():
        yield f"{key:<22} : {value}"


def block_lines(devices: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """`xl block-list`."""
    yield (
        f"{'Vdev':<5} {'BE':<3} {'handle':<6} {'state':<5} {'evt-ch':<6} "
        f"{'ring-ref':<8} {'BE-path':<30}"
    )
    for device in devices:
        yield (
            f"{device['devid']:<5} {'0':<3} {device['domid']:<6} "
            f"{device.get('state', '-1'):<5} "
            f"{device.get('event-channel', '-1'):<6} "
            f"{device.get('ring-ref', '-1'):<8} {device['backend']:<30}"
        )


def network_lines(devices: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """`xl network-list`."""
    yield (
        f"{'Idx':<3} {'BE':<2} {'Mac Addr.':<17} {'handle':<6} {'state':<5} "
        f"{'evt-ch':<6} {'tx-/rx-ring-ref':<15} {'BE-path':<30}"
    )
    for device in devices:
        ring = (
            f"{device.get('tx-ring-ref', '-1')}/"
            f"{device.get('rx-ring-ref', '-1')}"
        )
        yield (
            f"{device['devid']:<3} {'0':<2} {device.get('mac', ''):<17} "
            f"{device.get('handle', ''):<6} {device.get('state', '-1'):<5} "
            f"{device.get('event-channel', '-1'):<6} {ring:>9}       "
            f"{device['backend']:<30}"
        )
