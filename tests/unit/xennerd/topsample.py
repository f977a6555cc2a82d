# SPDX-License-Identifier: GPL-2.0-or-later
"""A host and a guest at one moment, as `top` measures them."""

from xenner.types import Domid
from xennerd.ctl.domains import Domain, Vcpu
from xennerd.ctl.top import Sample

HOST = Domain(Domid(0), "Domain-0", memory_mib=3072, max_memory_mib=4096)


WEB = Domain(
    Domid(7),
    "web",
    memory_mib=512,
    max_memory_mib=1024,
    cpu_s=10.0,
    vcpus=(Vcpu(0, 1, True, 10.0),),
)

BEFORE = Sample(
    100.0,
    (HOST, WEB),
    {
        "backend/vbd/7/51712": {
            **{"reads": 3, "read_bytes": 4096, "writes": 1},
            **{"write_bytes": 512, "throttled": 2},
        },
        "backend/vbd/70/51712": {"reads": 1000},
    },
    {
        "backend/vif/7/0": {"tx_bytes": 4096, "rx_bytes": 1023},
        "backend/vif/7/1": {"tx_bytes": 1024, "rx_bytes": 1},
    },
)
