# SPDX-License-Identifier: GPL-2.0-or-later
"""struct emu_shared of abi/emu.h, as the VM process fills it before a start."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xenner import abi
from xennerd.vm.clock import Clock, Rate, write_clock
from xennerd.vm.memory.layout import MachineLayout


class CpuidRow(Protocol):
    """One CPUID answer: the fields of struct emu_cpuid."""

    @property
    def leaf(self) -> int: ...
    @property
    def subleaf(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def eax(self) -> int: ...
    @property
    def ebx(self) -> int: ...
    @property
    def ecx(self) -> int: ...
    @property
    def edx(self) -> int: ...


_NO_CLOCK = Clock(
    tsc_timestamp=0, system_time_ns=0, rate=Rate(mul=0, shift=0), wall_ns=0
)


@dataclass(frozen=True, slots=True)
class Domain:
    """What emu is told about the domain beside its memory."""

    domid: int
    nr_vcpus: int
    handle: bytes = bytes(16)
    quirks: int = 0
    cpuid: Sequence[CpuidRow] = ()
    xcr0: int = 0
    tsc_khz: int = 0
    clock: Clock = _NO_CLOCK
    console_port: int = 2
    # 0: the domain has no xenstore.
    store_port: int = 0
    # abi.EMU_FLAG_*
    flags: int = 0
    is_paused: bool = False


@dataclass(frozen=True, slots=True)
class FirstVcpu:
    """vCPU 0's first guest registers; `cr3` is a machine address."""

    rip: int
    rsp: int
    start_info_va: int
    cr3: int


def pack_emu_shared(
    layout: MachineLayout, *, domain: Domain, start: FirstVcpu
) -> bytes:
    """The structure's bytes; ValueError if a table does not fit."""
    if len(domain.cpuid) > abi.EMU_MAX_CPUID:
        raise ValueError(f"{len(domain.cpuid)} CPUID entries are too many")
    if len(domain.handle) != 16:
        raise ValueError("a domain handle has 16 bytes")
    if not 1 <= domain.nr_vcpus <= abi.EMU_MAX_VCPUS:
        raise ValueError(f"{domain.nr_vcpus} vCPUs: 1 to 32 can be had")
    packed = bytearray(abi.sizeof("emu_shared"))
    shared = abi.view("emu_shared", packed)
    shared.magic = abi.EMU_ABI_MAGIC
    shared.version = abi.EMU_ABI_VERSION
    shared.bytes = len(packed)
    shared.quirks = domain.quirks
    shared.domid = domain.domid
    shared.nr_vcpus = domain.nr_vcpus
    shared.nr_cpuid = len(domain.cpuid)
    shared.guest_mfn = layout.guest_mfn
    shared.guest_nr_pages = layout.guest_nr_pages
    shared.machine_nr_pages = layout.machine_nr_pages
    shared.m2p_nr_entries = layout.m2p_bytes // 8
    shared.start_rip = start.rip
    shared.start_rsp = start.rsp
    shared.start_info_va = start.start_info_va
    shared.start_cr3 = start.cr3
    shared.console_port = domain.console_port
    shared.store_port = domain.store_port
    shared.handle = domain.handle
    shared.flags = domain.flags
    shared.is_paused = domain.is_paused
    shared.xcr0 = domain.xcr0
    shared.tsc_khz = domain.tsc_khz
    write_clock(shared.clock, domain.clock)
    for row, entry in zip(shared.cpuid, domain.cpuid, strict=False):
        row.leaf = entry.leaf
        row.subleaf = entry.subleaf
        row.flags = entry.flags
        row.eax = entry.eax
        row.ebx = entry.ebx
        row.ecx = entry.ecx
        row.edx = entry.edx
    return bytes(packed)
