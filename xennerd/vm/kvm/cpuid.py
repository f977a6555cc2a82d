# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPUID that a guest sees, as Xen gives it to a PV domU. Pure.

Two tables come of one policy: what KVM is told (it decides which registers
and MSRs the vCPU has), and what emu answers to the forced-emulation CPUID by
which PV kernels ask. Bits are the manuals' (SDM vol 2 CPUID, APM vol 3 E);
each mask is what public/arch-x86/cpufeatureset.h marks as fit for all guests
("A"), less what emu does not carry: unknown and future bits stay hidden.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from xenner import abi
from xennerd.vm.kvm.machine import CpuidEntry

HostCpuid = Callable[[int, int], tuple[int, int, int, int]]
"""(leaf, subleaf) -> (eax, ebx, ecx, edx), as executed on this host."""

XEN_VERSION = 4 << 16 | 17

_XEN_BASE = abi.XEN_CPUID_FIRST_LEAF
_HYPERVISOR_LEAVES = range(_XEN_BASE, _XEN_BASE + 0x10000)
_KVM_BASE = _XEN_BASE + 0x100
"""Where KVM's own leaves go: it looks for them every 0x100."""

_MAX_BASIC_LEAF = 0xD
_MAX_EXTENDED_LEAF = 0x80000021
_MAX_SUBLEAF_7 = 1

_L1_EAX = 0x0FFF0FFF  # without the processor's type
# Leaf 1. No APIC (it is emu's), no HTT and no ACPI thermal control.
L1_EDX = 0x1FC9CBF5 & ~(1 << 9 | 1 << 22 | 1 << 28)
L1_ECX = 0xF6D83203
_L1_HYPERVISOR = 1 << 31
_L1_XSAVE = 1 << 26
_L1_AVX_GROUP = 1 << 12 | 1 << 28 | 1 << 29  # FMA, AVX, F16C
# What emu uses and no guest sees.
_L1_EDX_APIC = 1 << 9
_L1_ECX_EMU = 1 << 21 | 1 << 24  # x2APIC, TSC deadline
# Leaf 7. No RDPID: TSC_AUX is not switched per vCPU.
L7_EBX = 0xFDAF0B29
L7_ECX = 0x02405F43 & ~(1 << 22)
# No IBRS, STIBP, SSBD, ARCH_CAPABILITIES: their MSRs stay the host's.
L7_EDX = 0xAC00441C & ~(1 << 26 | 1 << 27 | 1 << 29 | 1 << 31)
L7_1_EAX = 0x00001C30
FSGSBASE = 1 << 0
_L7_EBX_AVX2 = 1 << 5
# How the FPU behaves, whatever is offered: FDP_EXCP_ONLY, NO_FPU_SEL.
_L7_EBX_FPU = 1 << 6 | 1 << 13
_L7_EBX_AVX512 = 0xDC230000
_L7_ECX_AVX = 1 << 9 | 1 << 10  # VAES, VPCLMULQDQ
_L7_ECX_AVX512 = 1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14
_L7_EDX_AVX512 = 1 << 2 | 1 << 3
_L7_1_EAX_AVX = 1 << 4
_L7_1_EAX_AVX512 = 1 << 5
# Leaf 0xd, 1. Without XSAVES and XSAVEC all areas have the standard form.
LD_1_EAX = 0x7 & ~(1 << 1)
# Leaf 0x80000001. No RDTSCP as above; AMD repeats some of leaf 1 in edx.
E1_EDX = 0xEA500800 & ~(1 << 27)
_E1_EDX_REPEATED = 0x0183F3FF
E1_ECX = 0x042109E3 & ~(1 << 1)  # one core: no CMP_LEGACY
_E1_ECX_AVX = 1 << 11 | 1 << 16  # XOP, FMA4
# Leaf 0x80000008 and 0x80000021: no IBPB, whose MSR stays the host's.
E8_EBX = 0x64001005 & ~(1 << 12 | 1 << 30)
E21_NULL_CLEARS_BASE = 1 << 6
E21_EAX = 0x78000064 & ~(1 << 27 | 1 << 28)
_INVARIANT_TSC = 1 << 8

_XCR0_X87_SSE = 0x3
_XCR0_AVX = 0x4
_XCR0_AVX512 = 0xE0
_XCR0_OFFERED = _XCR0_X87_SSE | _XCR0_AVX | _XCR0_AVX512
_XSAVE_HEAD_BYTES = 512 + 64

# Names, caches and TLBs: numbers that promise nothing.
_PLAIN_LEAVES = frozenset(
    {*range(0x80000002, 0x80000007), 0x80000019, 0x8000001A}
)
_HOST_LEAVES = frozenset({0x1, 0x7, 0xD, *range(0x80000002, 0x80000005)})


@dataclass(frozen=True, slots=True)
class GuestCpuid:
    """The two tables and the state components that go with them."""

    kvm: tuple[CpuidEntry, ...]
    guest: tuple[CpuidEntry, ...]
    xcr0: int

    def has_fsgsbase(self) -> bool:
        """Can ring 3 set its segment bases, as emu needs where it is there?"""
        return any(
            (e.leaf, e.subleaf) == (7, 0) and e.ebx & FSGSBASE for e in self.kvm
        )


def guest_cpuid(
    supported: Iterable[CpuidEntry],
    *,
    host: HostCpuid,
    host_xcr0: int,
    ring3_sees_host: bool,
    null_clears_base: bool = False,
) -> GuestCpuid:
    """Both tables from KVM's supported ones.

    `ring3_sees_host`: this KVM does not intercept CPUID at ring 3, so user
    space will use what the host has; its feature leaves then are the truth,
    not what KVM admits to. `null_clears_base`: a NUL selector was seen to
    clear its register's base, which counts there as well.
    """
    entries = [
        _from_host(entry, host) if ring3_sees_host else entry
        for entry in supported
    ]
    xcr0 = _offered_xcr0(entries, host_xcr0)
    plain = [
        restricted
        for entry in entries
        if entry.leaf not in _HYPERVISOR_LEAVES
        and (restricted := _restrict(entry, xcr0)) is not None
    ]
    size_bytes = most_bytes = _xsave_bytes(plain)
    if ring3_sees_host:
        # Its XCR0 is the host's whatever the guest sets: with AMX, XSAVE of
        # all that there is writes 11,008 bytes.
        _, enabled_bytes, _, _ = host(0xD, 0)
        most_bytes = max(size_bytes, enabled_bytes)
    guest = [_with_xsave_size(e, size_bytes, most_bytes) for e in plain]
    if ring3_sees_host:
        guest = [_without_fsgsbase(e) for e in guest]
        if null_clears_base:
            guest = [_with_null_clears_base(e) for e in guest]
    plain = [_with_xsave_size(e, size_bytes, size_bytes) for e in plain]
    return GuestCpuid(
        kvm=(
            *(_for_kvm(e, interprets=ring3_sees_host) for e in plain),
            *_xen_leaves(),
            *(_moved(e) for e in entries if e.leaf in _HYPERVISOR_LEAVES),
        ),
        guest=(*(e for e in guest if _worth_a_row(e)), *_xen_leaves()),
        xcr0=xcr0,
    )


def _from_host(entry: CpuidEntry, host: HostCpuid) -> CpuidEntry:
    if entry.leaf not in _HOST_LEAVES:
        return entry
    eax, ebx, ecx, edx = host(entry.leaf, entry.subleaf)
    return replace(entry, eax=eax, ebx=ebx, ecx=ecx, edx=edx)


def _offered_xcr0(entries: list[CpuidEntry], host_xcr0: int) -> int:
    """State components that host, KVM and we all have; 0: no XSAVE."""
    features = next((e.ecx for e in entries if e.leaf == 1), 0)
    if not features & _L1_XSAVE:
        return 0
    states = next(
        (e.eax for e in entries if (e.leaf, e.subleaf) == (0xD, 0)), 0
    )
    xcr0 = states & host_xcr0 & _XCR0_OFFERED
    if xcr0 & _XCR0_X87_SSE != _XCR0_X87_SSE:
        return 0
    if xcr0 & _XCR0_AVX512 != _XCR0_AVX512 or not xcr0 & _XCR0_AVX:
        xcr0 &= ~_XCR0_AVX512
    return xcr0


def _restrict(entry: CpuidEntry, xcr0: int) -> CpuidEntry | None:
    """What the guest may know of this leaf; None: nothing."""
    if entry.leaf in _PLAIN_LEAVES:
        return entry
    match entry.leaf:
        case 0x0:
            return replace(entry, eax=min(entry.eax, _MAX_BASIC_LEAF))
        case 0x1:
            return _restrict_1(entry, xcr0)
        case 0x2:
            # Intel's: all is told at once.
            return replace(entry, eax=entry.eax & ~0xFF | bool(entry.eax))
        case 0x4:
            # Caches: all of them one core's, one core in the package.
            return replace(entry, eax=entry.eax & 0x3FF, edx=entry.edx & 7)
        case 0x7:
            return _restrict_7(entry, xcr0)
        case 0xD:
            return _restrict_xsave(entry, xcr0)
        case _:
            return _restrict_extended(entry, xcr0)


def _restrict_1(entry: CpuidEntry, xcr0: int) -> CpuidEntry:
    ecx = entry.ecx & L1_ECX | _L1_HYPERVISOR
    if not xcr0 & _XCR0_AVX:
        ecx &= ~_L1_AVX_GROUP
    if not xcr0:
        ecx &= ~_L1_XSAVE
    # CLFLUSH's line, one thread; emu puts in the APIC id.
    ebx = entry.ebx & 0xFF00 | 1 << 16
    eax = entry.eax & _L1_EAX
    return replace(entry, eax=eax, ebx=ebx, ecx=ecx, edx=entry.edx & L1_EDX)


def _restrict_7(entry: CpuidEntry, xcr0: int) -> CpuidEntry | None:
    if entry.subleaf == 1:
        eax = entry.eax & L7_1_EAX
        if not xcr0 & _XCR0_AVX:
            eax &= ~_L7_1_EAX_AVX
        if not xcr0 & _XCR0_AVX512:
            eax &= ~_L7_1_EAX_AVX512
        return replace(entry, eax=eax, ebx=0, ecx=0, edx=0)
    if entry.subleaf:
        return None
    ebx = entry.ebx & (L7_EBX | _L7_EBX_FPU)
    ecx, edx = entry.ecx & L7_ECX, entry.edx & L7_EDX
    if not xcr0 & _XCR0_AVX:
        ebx, ecx = ebx & ~_L7_EBX_AVX2, ecx & ~_L7_ECX_AVX
    if not xcr0 & _XCR0_AVX512:
        ebx, ecx = ebx & ~_L7_EBX_AVX512, ecx & ~_L7_ECX_AVX512
        edx &= ~_L7_EDX_AVX512
    eax = min(entry.eax, _MAX_SUBLEAF_7)
    return replace(entry, eax=eax, ebx=ebx, ecx=ecx, edx=edx)


def _restrict_extended(entry: CpuidEntry, xcr0: int) -> CpuidEntry | None:
    match entry.leaf:
        case 0x80000000:
            return replace(entry, eax=min(entry.eax, _MAX_EXTENDED_LEAF))
        case 0x80000001:
            ecx = entry.ecx & E1_ECX
            if not xcr0 & _XCR0_AVX:
                ecx &= ~_E1_ECX_AVX
            edx = entry.edx & (E1_EDX | L1_EDX & _E1_EDX_REPEATED)
            return replace(entry, ecx=ecx, edx=edx)
        case 0x80000007:
            edx = entry.edx & _INVARIANT_TSC
            return replace(entry, eax=0, ebx=0, ecx=0, edx=edx)
        case 0x80000008:
            # Address sizes; in ecx stood the number of cores.
            eax, ebx = entry.eax & 0xFFFF, entry.ebx & E8_EBX
            return replace(entry, eax=eax, ebx=ebx, ecx=0, edx=0)
        case 0x80000021:
            eax = entry.eax & E21_EAX
            return replace(entry, eax=eax, ebx=0, ecx=0, edx=0)
        case _:
            return None


def _restrict_xsave(entry: CpuidEntry, xcr0: int) -> CpuidEntry | None:
    match entry.subleaf:
        case 0:
            return replace(entry, eax=entry.eax & xcr0, edx=0)
        case 1:
            eax = entry.eax & LD_1_EAX if xcr0 else 0
            return replace(entry, eax=eax, ebx=0, ecx=0, edx=0)
        case component:
            return entry if xcr0 >> component & 1 else None


def _xsave_bytes(entries: list[CpuidEntry]) -> int:
    """Size of the save area for the components that are left."""
    ends = [e.ebx + e.eax for e in entries if e.leaf == 0xD and e.subleaf > 1]
    return max(ends, default=_XSAVE_HEAD_BYTES)


def _with_xsave_size(
    entry: CpuidEntry, size_bytes: int, most_bytes: int
) -> CpuidEntry:
    """ebx as if XCR0 enabled all, which is the vCPU's (emu/cpuid.c), and in
    ecx what XSAVE writes at most."""
    if (entry.leaf, entry.subleaf) != (0xD, 0) or not entry.eax:
        return entry
    return replace(entry, ebx=size_bytes, ecx=most_bytes)


def _without_fsgsbase(entry: CpuidEntry) -> CpuidEntry:
    """For a kernel whose traps are dear.

    With it Linux reads KERNEL_GS_BASE at each switch of tasks, by an RDMSR
    that traps; without it it remembers what it has set by hypercalls
    (save_fsgs() of its arch/x86/kernel/process_64.c). That halves a switch.
    """
    if (entry.leaf, entry.subleaf) != (7, 0):
        return entry
    return replace(entry, ebx=entry.ebx & ~FSGSBASE)


def _with_null_clears_base(entry: CpuidEntry) -> CpuidEntry:
    """What AMD's processors tell from Zen 3 on and who has ours in a virtual
    machine may not pass on. Linux clears user space's GS by two hypercalls at
    each switch of tasks where it is not told (check_null_seg_clears_base() of
    its arch/x86/kernel/cpu/common.c).
    """
    if entry.leaf != 0x80000021:
        return entry
    return replace(entry, eax=entry.eax | E21_NULL_CLEARS_BASE)


def _for_kvm(entry: CpuidEntry, *, interprets: bool) -> CpuidEntry:
    """Add what emu itself uses and no guest sees.

    A KVM that interprets 32-bit code asks this table how: with an AMD
    processor's name SYSCALL there goes to ring 0, at an address that is cut to
    32 bits and so a guest process's own. With Intel's it is #UD, SYSENTER #GP.
    """
    if entry.leaf == 0 and interprets:
        ebx, edx, ecx = (
            int.from_bytes(part, "little")
            for part in (b"Genu", b"ineI", b"ntel")
        )
        return replace(entry, ebx=ebx, ecx=ecx, edx=edx)
    if entry.leaf == 1:
        ecx, edx = entry.ecx | _L1_ECX_EMU, entry.edx | _L1_EDX_APIC
        return replace(entry, ecx=ecx, edx=edx)
    return entry


def _moved(entry: CpuidEntry) -> CpuidEntry:
    """One of KVM's own leaves, out of the way of Xen's."""
    leaf = entry.leaf - _XEN_BASE + _KVM_BASE
    if entry.leaf == _XEN_BASE:
        return replace(entry, leaf=leaf, eax=_KVM_BASE + 1)
    return replace(entry, leaf=leaf)


def _worth_a_row(entry: CpuidEntry) -> bool:
    """emu answers zeros for what is not in its table."""
    return bool(entry.eax or entry.ebx or entry.ecx or entry.edx)


def _xen_leaves() -> tuple[CpuidEntry, ...]:
    """public/arch-x86/cpuid.h; emu adds those behind, time and addresses."""
    return (
        CpuidEntry(
            leaf=_XEN_BASE,
            subleaf=0,
            flags=0,
            eax=_XEN_BASE + abi.XEN_CPUID_MAX_NUM_LEAVES,
            ebx=abi.XEN_CPUID_SIGNATURE_EBX,
            ecx=abi.XEN_CPUID_SIGNATURE_ECX,
            edx=abi.XEN_CPUID_SIGNATURE_EDX,
        ),
        CpuidEntry(_XEN_BASE + 1, 0, 0, XEN_VERSION, 0, 0, 0),
        CpuidEntry(
            leaf=_XEN_BASE + 2,
            subleaf=0,
            flags=0,
            eax=1,  # hypercall page
            ebx=0x40000000,  # the MSR that asks for it
            ecx=abi.XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
            edx=0,
        ),
    )
