# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a 64-bit guest finds what when it starts: the plan, not the bytes.

The order is that of "Start-of-day memory layout" in Xen's public xen.h, with
its two modern exceptions: a kernel with MOD_START_PFN gets its initrd, and
one with INIT_P2M its page list, behind the initial mapping. Pure.
"""

from dataclasses import dataclass

from xenner.errors import ConfigError
from xenner.types import Pfn
from xennerd.vm.boot.kernel import Kernel
from xennerd.vm.boot.pagetables import Mapping, TableKey, table_keys
from xennerd.vm.memory.layout import PAGE_BYTES

_REGION_ALIGN_BYTES = 4 << 20
_SPARE_PAGES = (512 << 10) // PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Plan:
    """Guest page numbers of everything that the guest starts with.

    The initial mapping shows pfn 0 at the kernel's virt_base; `initrd_pfn`
    and `p2m_pfn` may lie behind it. `mappings` is all that is mapped.
    """

    nr_pages: int
    initrd_pfn: Pfn
    initrd_pages: int
    p2m_pfn: Pfn
    # With its own page tables where INIT_P2M moved it.
    p2m_frames: int
    p2m_virt: int
    start_info_pfn: Pfn
    store_pfn: Pfn
    console_pfn: Pfn
    tables_pfn: Pfn
    nr_table_frames: int
    stack_pfn: Pfn
    mappings: tuple[Mapping, ...]
    table_pfns: dict[TableKey, int]
    # One past the last page in use: the least that the guest must have.
    end_pfn: Pfn

    def virt(self, pfn: int) -> int:
        """Where the initial mapping shows the page."""
        return self.mappings[0].virt + pfn * PAGE_BYTES


def plan_start_of_day(
    kernel: Kernel, *, nr_pages: int, initrd_bytes: int
) -> Plan:
    """Place everything; ConfigError if `nr_pages` are too few."""
    plan = _plan(kernel, nr_pages=nr_pages, initrd_bytes=initrd_bytes)
    if plan.end_pfn <= nr_pages:
        return plan
    # The page list grows with the memory, so the least is a fixed point.
    least = plan.end_pfn
    while True:
        plan = _plan(kernel, nr_pages=least, initrd_bytes=initrd_bytes)
        if plan.end_pfn <= least:
            break
        least = plan.end_pfn
    least_mib = -(-least * PAGE_BYTES // (1 << 20))
    parts = "kernel and initrd need" if initrd_bytes else "kernel needs"
    raise ConfigError(
        f"{nr_pages * PAGE_BYTES >> 20} MiB are too little memory: "
        f"this {parts} at least {least_mib} MiB to start"
    )


def _plan(kernel: Kernel, *, nr_pages: int, initrd_bytes: int) -> Plan:
    at = _pages(kernel.virt_end - kernel.virt_base)
    initrd_pages, list_pages = _pages(initrd_bytes), _pages(nr_pages * 8)
    initrd_pfn, p2m_pfn = at, at
    if not kernel.mod_start_pfn:
        at += initrd_pages
        p2m_pfn = at
    if kernel.init_p2m is None:
        at += list_pages
    start_info_pfn, tables_pfn = at, at + 3
    region = _initial_mapping(kernel, tables_pfn)
    keys = table_keys(region)
    table_pfns = {key: tables_pfn + i for i, key in enumerate(keys)}
    mappings = [region]
    at = region.nr_pages
    if kernel.mod_start_pfn:
        initrd_pfn, at = at, at + initrd_pages
    p2m_frames = list_pages
    p2m_virt = region.virt + p2m_pfn * PAGE_BYTES
    if kernel.init_p2m is not None:
        p2m_pfn, p2m_virt = at, kernel.init_p2m
        listed = Mapping(virt=p2m_virt, pfn=p2m_pfn, nr_pages=list_pages)
        _check_apart(region, listed)
        mappings.append(listed)
        at += list_pages
        for key in table_keys(listed):
            if key not in table_pfns:
                table_pfns[key] = at
                at += 1
        p2m_frames = at - p2m_pfn
    return Plan(
        nr_pages=nr_pages,
        initrd_pfn=Pfn(initrd_pfn),
        initrd_pages=initrd_pages,
        p2m_pfn=Pfn(p2m_pfn),
        p2m_frames=p2m_frames,
        p2m_virt=p2m_virt,
        start_info_pfn=Pfn(start_info_pfn),
        store_pfn=Pfn(start_info_pfn + 1),
        console_pfn=Pfn(start_info_pfn + 2),
        tables_pfn=Pfn(tables_pfn),
        nr_table_frames=len(keys),
        stack_pfn=Pfn(tables_pfn + len(keys)),
        mappings=tuple(mappings),
        table_pfns=table_pfns,
        end_pfn=Pfn(at),
    )


def _initial_mapping(kernel: Kernel, tables_pfn: int) -> Mapping:
    """From virt_base past the tables, which must hold their own mapping."""
    base = kernel.virt_base
    nr_tables = 0
    while True:
        used = tables_pfn + nr_tables + 1 + _SPARE_PAGES
        end = base + used * PAGE_BYTES
        end = -(-end // _REGION_ALIGN_BYTES) * _REGION_ALIGN_BYTES
        if end > 1 << 64:
            raise ConfigError(
                "kernel and initrd are too big for the addresses "
                f"from VIRT_BASE {base:#x} on"
            )
        region = Mapping(virt=base, pfn=0, nr_pages=(end - base) // PAGE_BYTES)
        needed = len(table_keys(region))
        if needed <= nr_tables:
            return region
        nr_tables = needed


def _check_apart(region: Mapping, listed: Mapping) -> None:
    if listed.virt < region.virt_end and region.virt < listed.virt_end:
        raise ConfigError(
            f"the kernel wants its page list (INIT_P2M {listed.virt:#x}) "
            "where it is mapped itself"
        )


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // PAGE_BYTES)
