# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPUID that a guest sees, as Xen gives it to a PV domU. Pure.

Two tables come of one policy: what KVM is told (it decides which registers
and MSRs the vCPU has), and what emu answers to the forced-emulation CPUID by
which PV kernels ask. Bits are the manuals' (SDM vol 2 CPUID, APM vol 3 E).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from xennerd.vm.kvm import CpuidEntry

HostCpuid = Callable[[int, int], tuple[int, int, int, int]]
"""(leaf, subleaf) -> (eax, ebx, ecx, edx), as executed on this host."""

SUBLEAF_COUNTS = 1
_BRAND_LEAVES = range(0x80000002, 0x80000005)
XEN_VERSION = 4 << 16 | 17

_KVM_LEAVES = range(0x40000000, 0x40000100)
_XEN_BASE = 0x40000000

# Leaf 1. A PV guest has no APIC, MTRRs or page sizes of its own choosing.
_L1_ECX_HIDDEN = (
    1 << 2  # DTES64
    | 1 << 3  # MONITOR
    | 1 << 4  # DS-CPL
    | 1 << 5  # VMX
    | 1 << 6  # SMX
    | 1 << 15  # PDCM
    | 1 << 17  # PCID
    | 1 << 21  # x2APIC
    | 1 << 24  # TSC deadline
)
_L1_EDX_HIDDEN = (
    1 << 3  # PSE
    | 1 << 9  # APIC
    | 1 << 12  # MTRR
    | 1 << 13  # PGE
    | 1 << 17  # PSE36
    | 1 << 18  # PSN
    | 1 << 21  # DS
    | 1 << 22  # ACPI
    | 1 << 28  # HTT
    | 1 << 29  # TM
)
_L1_OSXSAVE = 1 << 27
_L1_XSAVE = 1 << 26
_L1_X2APIC = 1 << 21
_L1_TSC_DEADLINE = 1 << 24
_L1_HYPERVISOR = 1 << 31
_L1_AVX_GROUP = 1 << 12 | 1 << 28 | 1 << 29  # FMA, AVX, F16C
# Leaf 7.
_L7_EBX_FSGSBASE = 1 << 0
_L7_EBX_HIDDEN = (
    1 << 1  # TSC_ADJUST
    | 1 << 2  # SGX
    | 1 << 7  # SMEP
    | 1 << 10  # INVPCID
    | 1 << 12  # PQM
    | 1 << 15  # PQE
    | 1 << 20  # SMAP
    | 1 << 25  # PT
)
_L7_EBX_AVX512 = (
    1 << 16
    | 1 << 17
    | 1 << 21
    | 1 << 26
    | 1 << 27
    | 1 << 28
    | 1 << 30
    | 1 << 31
)
_L7_EBX_AVX2 = 1 << 5
_L7_ECX_HIDDEN = (
    1 << 2  # UMIP
    | 1 << 3  # PKU
    | 1 << 4  # OSPKE
    | 1 << 5  # WAITPKG
    | 1 << 7  # CET SS
    | 1 << 16  # LA57
    | 1 << 30  # SGX_LC
)
_L7_ECX_AVX512 = 1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14
_L7_ECX_AVX = 1 << 9 | 1 << 10  # VAES, VPCLMULQDQ
# Leaf 0x80000001.
_E1_ECX_HIDDEN = 1 << 2 | 1 << 3 | 1 << 10 | 1 << 12  # SVM, XAPIC, IBS, SKINIT
_E1_ECX_AVX = 1 << 11 | 1 << 16  # XOP, FMA4
_E1_EDX_HIDDEN = (
    1 << 3  # PSE
    | 1 << 9  # APIC
    | 1 << 12  # MTRR
    | 1 << 13  # PGE
    | 1 << 17  # PSE36
    | 1 << 26  # 1 GiB pages
    | 1 << 27  # RDTSCP: TSC_AUX is not switched per vCPU
)

_XCR0_X87_SSE = 0x3
_XCR0_AVX = 0x4
_XCR0_AVX512 = 0xE0
_XCR0_OFFERED = _XCR0_X87_SSE | _XCR0_AVX | _XCR0_AVX512


@dataclass(frozen=True, slots=True)
class GuestCpuid:
    """The two tables and the state components that go with them."""

    kvm: tuple[CpuidEntry, ...]
    guest: tuple[CpuidEntry, ...]
    xcr0: int


def guest_cpuid(
    supported: Iterable[CpuidEntry],
    *,
    host: HostCpuid,
    host_xcr0: int,
    ring3_sees_host: bool,
) -> GuestCpuid:
    """Both tables from KVM's supported ones.

    `ring3_sees_host`: this KVM does not intercept CPUID at ring 3, so user
    space will use what the host has; its leaves 1, 7 and 0xd then are the
    truth, not what KVM admits to.
    """
    entries = [
        _from_host(entry, host) if ring3_sees_host else entry
        for entry in supported
    ]
    xcr0 = _offered_xcr0(entries, host_xcr0)
    plain = [
        _restrict(entry, xcr0)
        for entry in entries
        if entry.leaf not in _KVM_LEAVES
    ]
    kvm_leaves = [e for e in entries if e.leaf in _KVM_LEAVES]
    return GuestCpuid(
        kvm=(*(_for_kvm(e) for e in plain), *kvm_leaves),
        guest=(*(e for e in plain if _worth_a_row(e)), *_xen_leaves()),
        xcr0=xcr0,
    )


def _from_host(entry: CpuidEntry, host: HostCpuid) -> CpuidEntry:
    if entry.leaf not in (1, 7, 0xD) and entry.leaf not in _BRAND_LEAVES:
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


def _restrict(entry: CpuidEntry, xcr0: int) -> CpuidEntry:
    match entry.leaf, entry.subleaf:
        case 1, _:
            ecx = entry.ecx & ~(_L1_ECX_HIDDEN | _L1_OSXSAVE) | _L1_HYPERVISOR
            if not xcr0 & _XCR0_AVX:
                ecx &= ~_L1_AVX_GROUP
            if not xcr0:
                ecx &= ~_L1_XSAVE
            # One thread, one core; emu puts in the APIC id.
            ebx = entry.ebx & 0xFF00 | 1 << 16
            return replace(
                entry, ebx=ebx, ecx=ecx, edx=entry.edx & ~_L1_EDX_HIDDEN
            )
        case 7, 0:
            ebx = entry.ebx & ~_L7_EBX_HIDDEN | _L7_EBX_FSGSBASE
            ecx = entry.ecx & ~_L7_ECX_HIDDEN
            if not xcr0 & _XCR0_AVX:
                ebx, ecx = ebx & ~_L7_EBX_AVX2, ecx & ~_L7_ECX_AVX
            if not xcr0 & _XCR0_AVX512:
                ebx, ecx = ebx & ~_L7_EBX_AVX512, ecx & ~_L7_ECX_AVX512
            return replace(entry, ebx=ebx, ecx=ecx, edx=entry.edx & 0x10)
        case 0xD, subleaf:
            return _restrict_xsave(entry, subleaf, xcr0)
        case 0x80000001, _:
            ecx = entry.ecx & ~_E1_ECX_HIDDEN
            if not xcr0 & _XCR0_AVX:
                ecx &= ~_E1_ECX_AVX
            return replace(entry, ecx=ecx, edx=entry.edx & ~_E1_EDX_HIDDEN)
        case 0x8000000A, _:
            return replace(entry, eax=0, ebx=0, ecx=0, edx=0)
        case _:
            return entry


def _restrict_xsave(entry: CpuidEntry, subleaf: int, xcr0: int) -> CpuidEntry:
    if subleaf == 0:
        return replace(entry, eax=entry.eax & xcr0, edx=0)
    if subleaf == 1:
        # Without XSAVES there are no supervisor states, and without XSAVEC
        # the compact size in ebx, which counts them, is not asked for.
        return replace(entry, eax=entry.eax & 0x5, ebx=0, ecx=0, edx=0)
    if not xcr0 >> subleaf & 1:
        return replace(entry, eax=0, ebx=0, ecx=0, edx=0)
    return entry


def _for_kvm(entry: CpuidEntry) -> CpuidEntry:
    """Add what emu itself uses and no guest sees."""
    if entry.leaf == 1:
        return replace(
            entry,
            ecx=entry.ecx | _L1_X2APIC | _L1_TSC_DEADLINE,
            edx=entry.edx | 1 << 9,
        )
    return entry


def _worth_a_row(entry: CpuidEntry) -> bool:
    """emu answers zeros for what is not in its table."""
    return bool(entry.eax or entry.ebx or entry.ecx or entry.edx)


def _xen_leaves() -> tuple[CpuidEntry, ...]:
    """public/arch-x86/cpuid.h; leaf 3 (time) and up say nothing here."""
    xen, vmm, xenvmm = (
        int.from_bytes(part, "little") for part in (b"XenV", b"MMXe", b"nVMM")
    )
    return (
        CpuidEntry(_XEN_BASE, 0, 0, _XEN_BASE + 2, xen, vmm, xenvmm),
        CpuidEntry(_XEN_BASE + 1, 0, 0, XEN_VERSION, 0, 0, 0),
        CpuidEntry(_XEN_BASE + 2, 0, 0, 1, 0x40000000, 0, 0),
    )
