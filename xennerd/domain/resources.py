# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain file's limits as properties of its unit. Pure.

systemd.resource-control(5). A key that the file does not have, or no longer
has, means no limit.
"""

from xenner.xlcfg import DomainConfig
from xenner.xlcpus import HostCpus

# Xen's default weight is systemd's default weight.
_XEN_WEIGHT = 256
_SYSTEMD_WEIGHT = 100
# Beyond the guest's pages: emu and its tables, KVM's own page tables, the
# process around it. bench/boot.py measures 30 MiB for the process.
_PROCESS_MIB = 96
_TABLES_PER_GUEST = 32


def keys_of_units(config: DomainConfig) -> list[str]:
    """The keys of the file that only work for a guest that is a unit."""
    are_set = {
        "cpu_weight": config.cpu_weight != _XEN_WEIGHT,
        "cap": config.cap_percent,
        "cpus": config.cpus is not None,
        "io_weight": config.io_weight != _SYSTEMD_WEIGHT,
    }
    return [key for key, is_set in are_set.items() if is_set]


def without_limits(config: DomainConfig) -> str:
    """A warning for a guest that is no unit; empty: the file has no limits."""
    if not (keys := keys_of_units(config)):
        return ""
    verb = "limits" if len(keys) == 1 else "limit"
    return (
        f"{', '.join(keys)} {verb} nothing here: a guest has limits as a unit "
        "of systemd, xenner@.service"
    )


def limit_properties(config: DomainConfig, host: HostCpus) -> dict[str, str]:
    """NAME=VALUE for `systemctl set-property`; an empty value is no limit.
    ValueError: the host has none of the CPUs."""
    weight = config.cpu_weight * _SYSTEMD_WEIGHT // _XEN_WEIGHT
    memory_mib = config.maxmem_mib
    most_mib = memory_mib + memory_mib // _TABLES_PER_GUEST + _PROCESS_MIB
    cpus = sorted(config.cpus.on(host) or ()) if config.cpus else []
    return {
        "CPUWeight": str(min(max(weight, 1), 10000)),
        "CPUQuota": f"{config.cap_percent}%" if config.cap_percent else "",
        "IOWeight": str(config.io_weight),
        "AllowedCPUs": ",".join(map(str, cpus)),
        "MemoryMax": f"{most_mib}M",
        "MemorySwapMax": "0",
    }
