# SPDX-License-Identifier: GPL-2.0-or-later
"""Build a domain: everything that stands in a vmcore at the first instruction.

The vmcore must be all zeros below its headers; see Vmcore.clear().
"""

import os
import struct
from array import array
from dataclasses import dataclass
from typing import Any

from xenner import abi
from xenner.abi import ffi
from xenner.errors import ConfigError
from xenner.layouts import X86_64
from xenner.types import GuestPhys
from xennerd.vm.boot.elf import parse_elf
from xennerd.vm.boot.kernel import Kernel
from xennerd.vm.boot.pagetables import (
    consecutive,
    emu_root_slots,
    emu_tables,
    guest_tables,
)
from xennerd.vm.boot.startofday import Plan, plan_start_of_day
from xennerd.vm.emushared import Domain, FirstVcpu, pack_emu_shared
from xennerd.vm.memory.corefile import KernelView
from xennerd.vm.memory.layout import PAGE_BYTES
from xennerd.vm.memory.vmcore import Vmcore

MAX_CMDLINE_BYTES = abi.MAX_GUEST_CMDLINE - 1
"""Without the final NUL."""

_GUEST = X86_64

_HYPERCALL_SLOT_BYTES = 32
_HYPERVISOR_IRET = 23


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the guest's first address space, for diagnostics."""

    name: str
    virt: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StartOfDay:
    """What the VM process needs to know about a domain that was built.

    `emu_entry` is a virtual address in emu's direct map; vCPUs start there
    with `emu_cr3`. The rest is the guest's own start, as emu was told it.
    """

    emu_entry: int
    emu_cr3: GuestPhys
    guest: FirstVcpu
    start_info_gpa: GuestPhys
    console_gpa: GuestPhys
    store_gpa: GuestPhys
    areas: tuple[Area, ...]


def build_domain(
    vmcore: Vmcore,
    *,
    kernel: Kernel,
    initrd: bytes | None,
    cmdline: bytes,
    emu_image: bytes,
    domain: Domain,
) -> StartOfDay:
    """Write emu, its tables and the guest's start of day into the vmcore.

    Raises ConfigError when the memory is too little, the command line too
    long or the kernel's wishes contradict each other.
    """
    if len(cmdline) > MAX_CMDLINE_BYTES or b"\0" in cmdline:
        raise ConfigError(
            f"the kernel command line has {len(cmdline)} bytes; "
            f"Xen's limit is {MAX_CMDLINE_BYTES}, without NUL bytes"
        )
    layout = vmcore.layout
    plan = plan_start_of_day(
        kernel,
        nr_pages=layout.start_nr_pages,
        initrd_bytes=len(initrd or b""),
    )
    start = FirstVcpu(
        rip=kernel.entry,
        rsp=plan.virt(plan.stack_pfn + 1),
        start_info_va=plan.virt(plan.start_info_pfn),
        cr3=layout.gpa(plan.tables_pfn),
    )
    emu_entry = _load_emu(vmcore, emu_image)
    _write_emu_memory(vmcore, domain, start)
    _write_guest(vmcore, kernel, plan=plan, initrd=initrd)
    _write_guest_tables(vmcore, plan, quirks=domain.quirks)
    info = _start_info(
        vmcore, plan, domain=domain, kernel=kernel, initrd=initrd
    )
    ffi.buffer(info.cmd_line)[: len(cmdline)] = cmdline
    _write(vmcore, layout.gpa(plan.start_info_pfn), ffi.buffer(info))
    reserved = _reserved_grants(
        layout.mfn(plan.console_pfn), layout.mfn(plan.store_pfn)
    )
    _write(vmcore, abi.GRANT_FRAMES_GPA, reserved)
    region = plan.mappings[0]
    vmcore.set_view(
        KernelView(
            virt_base=kernel.virt_base,
            size_bytes=region.nr_pages * PAGE_BYTES,
        )
    )
    return StartOfDay(
        emu_entry=emu_entry,
        emu_cr3=GuestPhys(abi.EMU_TABLES_GPA + abi.EMU_TABLE_L4 * PAGE_BYTES),
        guest=start,
        start_info_gpa=layout.gpa(plan.start_info_pfn),
        console_gpa=layout.gpa(plan.console_pfn),
        store_gpa=layout.gpa(plan.store_pfn),
        areas=_areas(kernel, plan),
    )


def hypercall_page() -> bytes:
    """128 slots of code, entered by number, as Xen fills them at ring 3.

    push %rcx; push %r11; mov $nr,%eax; syscall; pop %r11; pop %rcx; ret
    The slot of iret leaves rcx, r11 and rax on the stack: its frame.
    """
    page = b""
    for nr in range(PAGE_BYTES // _HYPERCALL_SLOT_BYTES):
        call = b"\xb8" + struct.pack("<I", nr) + b"\x0f\x05"
        if nr == _HYPERVISOR_IRET:
            code = b"\x51\x41\x53\x50" + call
        else:
            code = b"\x51\x41\x53" + call + b"\x41\x5b\x59\xc3"
        # The rest is int3, so that a stray jump does not go unnoticed.
        page += code.ljust(_HYPERCALL_SLOT_BYTES, b"\xcc")
    return page


def _write(
    vmcore: Vmcore, gpa: int, data: "bytes | memoryview | array[int]"
) -> None:
    # Through the descriptor, not the mapping: that would take a page fault
    # for each page, several times the cost of the copy.
    view = memoryview(data).cast("B")
    while view:
        done = os.pwrite(vmcore.fd, view, gpa)
        view, gpa = view[done:], gpa + done


def _load_emu(vmcore: Vmcore, image: bytes) -> int:
    """Load emu, linked at its place in the direct map; return its entry."""
    elf = parse_elf(image)
    end = abi.EMU_IMAGE_GPA + abi.EMU_IMAGE_BYTES
    for segment in elf.segments:
        gpa = segment.vaddr - abi.DIRECTMAP_VIRT
        if gpa < abi.EMU_IMAGE_GPA or gpa + segment.memsz_bytes > end:
            raise ValueError(f"emu is linked to a wrong address: {gpa:#x}")
        _write(vmcore, gpa, segment.data)
    return elf.entry


def _write_emu_memory(vmcore: Vmcore, domain: Domain, start: FirstVcpu) -> None:
    """emu's tables, the M2P and the pages that emu and we share."""
    layout = vmcore.layout
    is_ring0_slow = bool(domain.quirks & abi.EMU_QUIRK_SLOW_RING0)
    for gpa, table in emu_tables(layout, is_ring0_slow=is_ring0_slow):
        _write(vmcore, gpa, table)

    end = abi.M2P_GPA + layout.m2p_bytes
    at: int = abi.M2P_GPA
    # What the guest may ask for later is nobody's yet.
    for extent in layout.extents(0, layout.start_nr_pages):
        first = abi.M2P_GPA + extent.mfn * 8
        _write(vmcore, at, b"\xff" * (first - at))
        _write(vmcore, first, consecutive(extent.pfn, extent.nr_pages))
        at = first + extent.nr_pages * 8
    _write(vmcore, at, b"\xff" * (end - at))

    shared = pack_emu_shared(layout, domain=domain, start=start)
    _write(vmcore, abi.EMU_SHARED_GPA, shared)
    _write(vmcore, abi.SHARED_INFO_GPA, _shared_info(domain))


def _shared_info(domain: Domain) -> bytes:
    page = bytearray(PAGE_BYTES)
    info = _GUEST.view("shared_info", page)
    for vcpu in info.vcpu_info:
        vcpu.evtchn_upcall_mask = 1
    mask = ffi.buffer(info.evtchn_mask)
    mask[:] = b"\xff" * len(mask)
    _GUEST.set_wall_clock(info, *domain.clock.wall)
    return bytes(page)


def _write_guest(
    vmcore: Vmcore, kernel: Kernel, *, plan: Plan, initrd: bytes | None
) -> None:
    """The guest's own pages except its tables: kernel, initrd, page list."""
    for segment in kernel.segments:
        _write_guest_bytes(vmcore, segment.paddr, segment.data)
    if kernel.hypercall_page is not None:
        offset = kernel.hypercall_page - kernel.virt_base
        _write_guest_bytes(vmcore, offset, hypercall_page())
    if initrd:
        _write_guest_bytes(vmcore, plan.initrd_pfn * PAGE_BYTES, initrd)
    paddr = plan.p2m_pfn * PAGE_BYTES
    for extent in vmcore.layout.extents(0, plan.nr_pages):
        mfns = consecutive(extent.mfn, extent.nr_pages)
        _write_guest_bytes(
            vmcore, paddr + extent.pfn * 8, memoryview(mfns).cast("B")
        )


def _write_guest_bytes(
    vmcore: Vmcore, paddr: int, data: bytes | memoryview
) -> None:
    """Write at a pseudo-physical address, across the machine hole if any."""
    view = memoryview(data)
    first_pfn, start = divmod(paddr, PAGE_BYTES)
    nr_pages = -(-(start + len(view)) // PAGE_BYTES)
    for extent in vmcore.layout.extents(first_pfn, nr_pages):
        room = extent.nr_pages * PAGE_BYTES - start
        _write(vmcore, extent.mfn * PAGE_BYTES + start, view[:room])
        view, start = view[room:], 0


def _write_guest_tables(vmcore: Vmcore, plan: Plan, *, quirks: int) -> None:
    tables = guest_tables(
        vmcore.layout,
        mappings=plan.mappings,
        table_pfns=plan.table_pfns,
        read_only_pfns=range(
            plan.tables_pfn, plan.tables_pfn + plan.nr_table_frames
        ),
        root_slots=emu_root_slots(
            is_ring0_slow=bool(quirks & abi.EMU_QUIRK_SLOW_RING0)
        ),
    )
    for pfn, table in tables.items():
        _write(vmcore, vmcore.layout.gpa(pfn), table)
    _write_page_types(vmcore, plan)


def _write_page_types(vmcore: Vmcore, plan: Plan) -> None:
    """Each table is linked once, and the root is pinned: a guest unpins it
    when it has its own."""
    layout = vmcore.layout
    for (level, _), pfn in plan.table_pfns.items():
        word = level | abi.EMU_TYPE_REF
        if level == 4:
            word |= abi.EMU_TYPE_PINNED
        at = layout.types_gpa + layout.mfn(pfn) * abi.PAGE_TYPE_BYTES
        _write(vmcore, at, array("I", [word]))


def _start_info(
    vmcore: Vmcore,
    plan: Plan,
    *,
    domain: Domain,
    kernel: Kernel,
    initrd: bytes | None,
) -> Any:
    """struct start_info, but for the command line."""
    layout = vmcore.layout
    info = _GUEST.new("start_info")
    info.magic = _GUEST.magic
    info.nr_pages = plan.nr_pages
    info.shared_info = abi.SHARED_INFO_GPA
    if domain.store_port:
        info.store_mfn = layout.mfn(plan.store_pfn)
        info.store_evtchn = domain.store_port
    info.console.domU.mfn = layout.mfn(plan.console_pfn)
    info.console.domU.evtchn = domain.console_port
    info.pt_base = plan.virt(plan.tables_pfn)
    info.nr_pt_frames = plan.nr_table_frames
    info.mfn_list = plan.p2m_virt
    if initrd:
        info.mod_start = plan.virt(plan.initrd_pfn)
        info.mod_len = len(initrd)
        if kernel.mod_start_pfn:
            info.flags |= abi.SIF_MOD_START_PFN
            info.mod_start = plan.initrd_pfn
    if kernel.init_p2m is not None:
        # They stay 0 unless INIT_P2M moved the list.
        info.first_p2m_pfn = plan.p2m_pfn
        info.nr_p2m_frames = plan.p2m_frames
    return info


def _reserved_grants(console_mfn: int, store_mfn: int) -> bytes:
    """The first entries of the grant table: what domain 0 finds without
    being told (GNTTAB_RESERVED_* of grant_table.h)."""
    table = ffi.new("struct grant_entry_v1[2]")
    for ref, mfn in (
        (abi.GNTTAB_RESERVED_CONSOLE, console_mfn),
        (abi.GNTTAB_RESERVED_XENSTORE, store_mfn),
    ):
        table[ref].flags, table[ref].frame = abi.GTF_permit_access, mfn
    return bytes(ffi.buffer(table))


def _areas(kernel: Kernel, plan: Plan) -> tuple[Area, ...]:
    pages = [
        ("start info", plan.start_info_pfn, 1),
        ("xenstore ring", plan.store_pfn, 1),
        ("console ring", plan.console_pfn, 1),
        ("page tables", plan.tables_pfn, plan.nr_table_frames),
        ("boot stack", plan.stack_pfn, 1),
    ]
    if plan.initrd_pages and not kernel.mod_start_pfn:
        pages.append(("initrd", plan.initrd_pfn, plan.initrd_pages))
    size_bytes = kernel.virt_end - kernel.virt_start
    return (
        Area("kernel", kernel.virt_start, size_bytes),
        Area("page list", plan.p2m_virt, plan.nr_pages * 8),
        *(Area(n, plan.virt(p), c * PAGE_BYTES) for n, p, c in pages),
    )
