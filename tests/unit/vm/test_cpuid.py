# SPDX-License-Identifier: GPL-2.0-or-later
"""What a PV guest may know of the processor."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenner import abi
from xennerd.vm.kvm import cpuid
from xennerd.vm.kvm.cpuid import (
    E21_NULL_CLEARS_BASE,
    FSGSBASE,
    GuestCpuid,
    guest_cpuid,
)
from xennerd.vm.kvm.machine import CpuidEntry

U32 = st.integers(min_value=0, max_value=(1 << 32) - 1)
ALL = (1 << 32) - 1
FEATURES = Path("/usr/include/xen/arch-x86/cpufeatureset.h")
LEAVES = [
    (0x0, 0),
    (0x1, 0),
    (0x2, 0),
    *((0x4, i) for i in range(4)),
    (0x5, 0),
    (0x6, 0),
    (0x7, 0),
    (0x7, 1),
    (0xA, 0),
    (0xB, 0),
    *((0xD, i) for i in range(20)),
    (0x40000000, 0),
    (0x40000001, 0),
    *((0x80000000 + i, 0) for i in range(9)),
    (0x8000000A, 0),
    (0x8000001D, 0),
    (0x8000001F, 0),
    (0x80000021, 0),
]


def entry(leaf: int, subleaf: int, *words: int) -> CpuidEntry:
    flags = 1 if leaf in (4, 7, 0xB, 0xD) else 0
    return CpuidEntry(leaf, subleaf, flags, *words)


def everything(**changed: tuple[int, int, int, int]) -> list[CpuidEntry]:
    """A processor that has every bit there is, but for `l<leaf>_<subleaf>`."""
    rows = {(leaf, sub): (ALL, ALL, ALL, ALL) for leaf, sub in LEAVES}
    # Component i has 64 * i bytes at 1024 * i.
    for sub in range(2, 20):
        rows[0xD, sub] = (64 * sub, 1024 * sub, 0, 0)
    for name, words in changed.items():
        number, _, subleaf = name[1:].partition("_")
        rows[int(number, 16), int(subleaf)] = words
    return [entry(*key, *words) for key, words in rows.items()]


def no_host(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    raise AssertionError("the host's CPUID is not to be asked")


def build(supported: list[CpuidEntry], *, xcr0: int = 0xE7) -> GuestCpuid:
    return guest_cpuid(
        supported, host=no_host, host_xcr0=xcr0, ring3_sees_host=False
    )


def row(
    table: tuple[CpuidEntry, ...], leaf: int, subleaf: int = 0
) -> CpuidEntry:
    found = [e for e in table if (e.leaf, e.subleaf) == (leaf, subleaf)]
    assert len(found) == 1
    return found[0]


def xen_offers_pv_guests() -> dict[int, int]:
    """Feature word -> bits that Xen's header marks for all guests."""
    words: dict[int, int] = {}
    pattern = r"^XEN_CPUFEATURE\(\w+,\s*(\d+)\*32\+\s*(\d+)\)\s*/\*\S*A"
    for word, bit in re.findall(pattern, FEATURES.read_text(), re.MULTILINE):
        words[int(word)] = words.get(int(word), 0) | 1 << int(bit)
    if words:
        # SRSO_US_NO, which older headers of Xen 4.17 do not know.
        words[11] |= 1 << 30
    return words


@pytest.mark.parametrize(
    ("word", "mask"),
    [
        (0, cpuid.L1_EDX),
        (1, cpuid.L1_ECX),
        (2, cpuid.E1_EDX),
        (3, cpuid.E1_ECX),
        (4, cpuid.LD_1_EAX),
        (5, cpuid.L7_EBX),
        (6, cpuid.L7_ECX),
        (8, cpuid.E8_EBX),
        (9, cpuid.L7_EDX),
        (10, cpuid.L7_1_EAX),
        (11, cpuid.E21_EAX),
    ],
)
def test_no_feature_that_xen_would_hide(word: int, mask: int) -> None:
    offered = xen_offers_pv_guests()
    assert offered, "the header has changed its form"
    assert mask & ~offered[word] == 0


# Names as in the manuals: (leaf, subleaf, register, bit).
HIDDEN = {
    "PSE": (0x1, 0, "edx", 3),
    "APIC": (0x1, 0, "edx", 9),
    "MTRR": (0x1, 0, "edx", 12),
    "PGE": (0x1, 0, "edx", 13),
    "PSE36": (0x1, 0, "edx", 17),
    "HTT": (0x1, 0, "edx", 28),
    "MONITOR": (0x1, 0, "ecx", 3),
    "VMX": (0x1, 0, "ecx", 5),
    "PCID": (0x1, 0, "ecx", 17),
    "x2APIC": (0x1, 0, "ecx", 21),
    "TSC deadline": (0x1, 0, "ecx", 24),
    "OSXSAVE": (0x1, 0, "ecx", 27),
    "SMEP": (0x7, 0, "ebx", 7),
    "INVPCID": (0x7, 0, "ebx", 10),
    "SMAP": (0x7, 0, "ebx", 20),
    "UMIP": (0x7, 0, "ecx", 2),
    "PKU": (0x7, 0, "ecx", 3),
    "LA57": (0x7, 0, "ecx", 16),
    "RDPID": (0x7, 0, "ecx", 22),
    "SPEC_CTRL": (0x7, 0, "edx", 26),
    "ARCH_CAPABILITIES": (0x7, 0, "edx", 29),
    "XSAVES": (0xD, 1, "eax", 3),
    "SVM": (0x80000001, 0, "ecx", 2),
    "TOPOEXT": (0x80000001, 0, "ecx", 22),
    "1 GiB pages": (0x80000001, 0, "edx", 26),
    "RDTSCP": (0x80000001, 0, "edx", 27),
    "IBPB": (0x80000008, 0, "ebx", 12),
}
SHOWN = {
    "FDP_EXCP_ONLY": (0x7, 0, "ebx", 6),
    "NO_FPU_SEL": (0x7, 0, "ebx", 13),
    "FPU": (0x1, 0, "edx", 0),
    "MCE": (0x1, 0, "edx", 7),
    "CMPXCHG16B": (0x1, 0, "ecx", 13),
    "XSAVE": (0x1, 0, "ecx", 26),
    "AVX": (0x1, 0, "ecx", 28),
    "hypervisor": (0x1, 0, "ecx", 31),
    "FSGSBASE": (0x7, 0, "ebx", 0),
    "AVX2": (0x7, 0, "ebx", 5),
    "AVX512F": (0x7, 0, "ebx", 16),
    "SYSCALL": (0x80000001, 0, "edx", 11),
    "NX": (0x80000001, 0, "edx", 20),
    "LM": (0x80000001, 0, "edx", 29),
    "invariant TSC": (0x80000007, 0, "edx", 8),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden(name: str) -> None:
    leaf, subleaf, register, bit = HIDDEN[name]
    found = row(build(everything()).guest, leaf, subleaf)
    assert not getattr(found, register) >> bit & 1


@pytest.mark.parametrize("name", SHOWN)
def test_shown(name: str) -> None:
    leaf, subleaf, register, bit = SHOWN[name]
    found = row(build(everything()).guest, leaf, subleaf)
    assert getattr(found, register) >> bit & 1


def test_kvm_gets_what_emu_needs_and_the_guest_does_not_see() -> None:
    leaf_1 = row(build(everything()).kvm, 1)
    assert leaf_1.edx >> 9 & 1
    assert leaf_1.ecx >> 21 & 1
    assert leaf_1.ecx >> 24 & 1


def test_xens_leaves_stand_where_they_are_looked_for() -> None:
    built = build(everything())
    for table in (built.guest, built.kvm):
        leaf = row(table, 0x40000000)
        name = b"".join(
            word.to_bytes(4, "little")
            for word in (leaf.ebx, leaf.ecx, leaf.edx)
        )
        assert name == b"XenVMMXenVMM"
        assert leaf.eax == 0x40000005
        assert row(table, 0x40000001).eax == 0x40011
        assert row(table, 0x40000002).eax == 1
        assert row(table, 0x40000002).ecx == 1
    # KVM finds its own, with its largest leaf's number put right.
    assert row(built.kvm, 0x40000100).eax == 0x40000101
    assert row(built.kvm, 0x40000101).eax == ALL


def test_leaves_that_nobody_vouched_for_are_gone() -> None:
    leaves = {e.leaf for e in build(everything()).guest}
    assert leaves.isdisjoint({0x5, 0x6, 0xA, 0xB, 0x8000000A, 0x8000001F})


def test_reserved_fields_are_clear() -> None:
    built = build(everything())
    assert row(built.guest, 1).eax == 0x0FFF0FFF
    assert row(built.guest, 2).eax == ALL - 0xFE
    assert row(built.guest, 4).eax & 0x3C00 == 0
    assert row(built.guest, 4).edx == 7


def test_one_core_one_thread() -> None:
    built = build(everything())
    assert row(built.guest, 1).ebx >> 16 & 0xFF == 1
    for subleaf in range(4):
        assert row(built.guest, 4, subleaf).eax >> 14 == 0
    assert row(built.guest, 0x80000008).ecx == 0


def test_save_area_is_as_large_as_what_is_offered() -> None:
    # Components 2 and 5-7 are offered: 7 ends at 7168 + 448.
    built = build(everything(ld_0=(ALL, 9999, 9999, ALL)))
    assert built.xcr0 == 0xE7
    area = row(built.guest, 0xD)
    assert (area.eax, area.edx) == (0xE7, 0)
    assert (area.ebx, area.ecx) == (7168 + 448, 7168 + 448)
    components = {e.subleaf for e in built.guest if e.leaf == 0xD}
    assert components == {0, 1, 2, 5, 6, 7}


def test_half_of_avx512_is_none_of_it() -> None:
    built = build(everything(), xcr0=0x27)
    assert built.xcr0 == 0x7
    assert not row(built.guest, 7).ebx >> 16 & 1
    assert row(built.guest, 7).ebx >> 5 & 1


def test_without_avx_state_no_instruction_that_uses_it() -> None:
    built = build(everything(), xcr0=0x3)
    assert built.xcr0 == 0x3
    assert not row(built.guest, 1).ecx >> 28 & 1
    assert not row(built.guest, 7).ebx >> 5 & 1
    assert row(built.guest, 0xD).ebx == 576


def test_without_xsave_there_is_no_leaf_for_it() -> None:
    built = build(everything(), xcr0=0)
    assert built.xcr0 == 0
    assert not row(built.guest, 1).ecx >> 26 & 1
    assert not any(e.eax for e in built.guest if e.leaf == 0xD)


def test_where_ring_3_sees_the_host_the_host_is_the_truth() -> None:
    supported = everything(
        l1_0=(1, 0, 0, 0), l7_0=(0, 0, 0, 0), ld_0=(0, 0, 0, 0)
    )

    def host(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        if leaf == 0xD and subleaf > 1:
            return 64, 576, 0, 0
        return (ALL, ALL, ALL, ALL)

    built = guest_cpuid(
        supported, host=host, host_xcr0=0x7, ring3_sees_host=True
    )
    assert built.xcr0 == 0x7
    assert row(built.guest, 1).ecx >> 28 & 1
    assert built.has_fsgsbase()
    assert not build(supported).has_fsgsbase()


def test_a_kernel_whose_traps_are_dear_reads_no_segment_bases() -> None:
    """emu has the instructions all the same."""
    built = guest_cpuid(
        everything(),
        host=lambda _leaf, _subleaf: (ALL, ALL, ALL, ALL),
        host_xcr0=0x7,
        ring3_sees_host=True,
    )
    assert not row(built.guest, 7).ebx & FSGSBASE
    assert row(built.guest, 7).ebx >> 5 & 1
    assert row(built.kvm, 7).ebx & FSGSBASE


@pytest.mark.parametrize("is_software", [False, True])
@pytest.mark.parametrize("was_seen", [False, True])
def test_what_nul_selectors_do_was_tried_where_ring_3_is_the_host_s(
    is_software: bool, was_seen: bool
) -> None:
    supported = [
        replace(entry, eax=0x204) if entry.leaf == 0x80000021 else entry
        for entry in everything()
    ]
    built = guest_cpuid(
        supported,
        host=lambda _leaf, _subleaf: (ALL, ALL, ALL, ALL),
        host_xcr0=0x7,
        ring3_sees_host=is_software,
        null_clears_base=was_seen,
    )
    told = row(built.guest, 0x80000021).eax & E21_NULL_CLEARS_BASE
    assert bool(told) == (is_software and was_seen)


# Leaf 0xd of a Xeon with AMX (Sapphire Rapids), as its host's XCR0 has it:
# sizes and offsets of the components.
AMX_XCR0 = 0x602E7
AMX_COMPONENTS = {
    2: (0x100, 0x240),
    5: (0x40, 0x440),
    6: (0x200, 0x480),
    7: (0x400, 0x680),
    9: (0x8, 0xA80),
    17: (0x40, 0xAC0),
    18: (0x2000, 0xB00),
}


def amx_host(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    if leaf != 0xD:
        return (ALL, ALL, ALL, ALL)
    if subleaf == 0:
        return AMX_XCR0, 11008, 11008, 0
    if subleaf == 1:
        return 0x1F, 0, 0x1900, 0
    return (*AMX_COMPONENTS.get(subleaf, (0, 0)), 0, 0)


def test_there_is_room_for_what_ring_3_saves() -> None:
    """The guest is not offered AMX, and XSAVE writes its state all the same:
    what the guest enables needs 2688 bytes, what is there 11,008."""
    built = guest_cpuid(
        everything(), host=amx_host, host_xcr0=AMX_XCR0, ring3_sees_host=True
    )
    assert built.xcr0 == 0xE7
    area = row(built.guest, 0xD)
    assert (area.eax, area.ebx, area.ecx, area.edx) == (0xE7, 2688, 11008, 0)
    # KVM reckons for itself.
    assert row(built.kvm, 0xD).ecx == 2688
    # With protection keys alone it is a few bytes.
    built = guest_cpuid(
        everything(),
        host=lambda leaf, subleaf: (
            (0x2E7, 2696, 11008, 0)
            if (leaf, subleaf) == (0xD, 0)
            else amx_host(leaf, subleaf)
        ),
        host_xcr0=0x2E7,
        ring3_sees_host=True,
    )
    assert row(built.guest, 0xD).ecx == 2696


def test_on_hardware_the_guest_has_what_it_enables() -> None:
    supported = [
        entry(e.leaf, e.subleaf, *amx_host(e.leaf, e.subleaf))
        if e.leaf == 0xD
        else e
        for e in everything()
    ]
    built = build(supported, xcr0=AMX_XCR0)
    area = row(built.guest, 0xD)
    assert (area.ebx, area.ecx) == (2688, 2688)


def test_a_kvm_that_interprets_32_bit_code_takes_it_for_intels() -> None:
    name = (0x68747541, 0x444D4163, 0x69746E65)  # AuthenticAMD
    supported = everything(l0_0=(0xD, *name))

    def host(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        return 0, 0, 0, 0

    built = guest_cpuid(supported, host=host, host_xcr0=0, ring3_sees_host=True)
    shown, told = row(built.guest, 0), row(built.kvm, 0)
    assert (shown.ebx, shown.ecx, shown.edx) == name
    assert (told.ebx, told.edx, told.ecx) == (
        0x756E6547,
        0x49656E69,
        0x6C65746E,
    )
    assert row(build(supported).kvm, 0).ebx == name[0]


@given(
    words=st.lists(
        st.tuples(U32, U32, U32, U32),
        min_size=len(LEAVES),
        max_size=len(LEAVES),
    ),
    xcr0=st.integers(min_value=0, max_value=(1 << 64) - 1),
)
def test_any_processor_gives_a_table_that_emu_can_hold(
    words: list[tuple[int, int, int, int]], xcr0: int
) -> None:
    supported = [
        entry(*key, *row) for key, row in zip(LEAVES, words, strict=True)
    ]
    built = build(supported, xcr0=xcr0)
    assert len(built.guest) <= abi.EMU_MAX_CPUID
    assert built.xcr0 in (0, 0x3, 0x7, 0xE7)
    for e in built.guest:
        assert all(0 <= word <= ALL for word in (e.eax, e.ebx, e.ecx, e.edx))
