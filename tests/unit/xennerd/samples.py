# SPDX-License-Identifier: GPL-2.0-or-later
"""Domains that several tests look at."""

from __future__ import annotations

from xenner.types import Domid
from xennerd.ctl.domains import Domain, Vcpu
from xennerd.domain.records import Record

RECORD = Record(
    domid=Domid(7),
    name="web",
    handle="12345678-9abc-4def-8123-456789abcdef",
    file="/etc/xenner/7.cfg",
    settings="memory=64",
    unit="xenner@7.service",
    pid=12,
    memory_mib=64,
    nr_vcpus=2,
    starts_s=(1.5, 2.5),
    plugged=("vbd 51728 /a,raw,xvdb,w", "vif 0 "),
    text="name='web'\nkernel='/k'\n# \N{SNOWMAN}",
)

WEB = Domain(
    domid=Domid(7),
    name="web",
    memory_mib=512,
    cpu_s=12.34,
    uptime_s=8864,
    vcpus=(Vcpu(0, 3, True, 12.0), Vcpu(1, 0, False, 0.3)),
)

WEB1 = Domain(
    domid=Domid(7),
    name="web1.example.com",
    memory_mib=512,
    max_memory_mib=1024,
    cpu_s=12.34,
    vcpus=(Vcpu(0, 3, True, 12.0), Vcpu(1, 0, False, 0.3)),
)
