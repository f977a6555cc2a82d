# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain file's limits as properties of its slice. Pure.

systemd.resource-control(5). Without a key in the file there is no limit, and
a limit that the file has no longer is taken back.
"""

from xenner.xlcfg import DomainConfig

# Xen's default weight is systemd's default weight.
_XEN_WEIGHT = 256
_SYSTEMD_WEIGHT = 100
# Beyond the guest's pages: emu and its tables, KVM's own page tables, the
# process around it. bench/boot.py measures 30 MiB for the process.
_PROCESS_MIB = 96
_TABLES_PER_GUEST = 32


def slice_properties(config: DomainConfig) -> dict[str, str]:
    """NAME=VALUE for `systemctl set-property`; empty is no limit."""
    weight = config.cpu_weight * _SYSTEMD_WEIGHT // _XEN_WEIGHT
    memory_mib = config.maxmem_mib
    most_mib = memory_mib + memory_mib // _TABLES_PER_GUEST + _PROCESS_MIB
    cpus = sorted(config.cpus or ())
    return {
        "CPUWeight": str(min(max(weight, 1), 10000)),
        "CPUQuota": f"{config.cap_percent}%" if config.cap_percent else "",
        "IOWeight": str(config.io_weight),
        "AllowedCPUs": ",".join(map(str, cpus)),
        "MemoryMax": f"{most_mib}M",
        "MemorySwapMax": "0",
    }
