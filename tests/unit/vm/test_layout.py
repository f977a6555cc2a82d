# SPDX-License-Identifier: GPL-2.0-or-later
"""Machine memory: nothing overlaps, whatever the guest's size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenner import abi
from xennerd.vm.memory.layout import (
    PAGE_BYTES,
    machine_layout,
    max_memory_bytes,
    xen_owns,
)

MIB = 1 << 20
HOLE = range(
    abi.MACHINE_HOLE_GPA // PAGE_BYTES, abi.MACHINE_HOLE_END_GPA // PAGE_BYTES
)


def test_small_guest_is_shifted_by_8_mib() -> None:
    for mib in (256, 1016):
        layout = machine_layout(mib * MIB // PAGE_BYTES)
        assert layout.guest_mfn == 2048
        assert layout.size_bytes == (8 + mib) * MIB
        assert layout.ram_ranges() == ((0, (8 + mib) * MIB),)


def test_hole() -> None:
    layout = machine_layout(8192 * MIB // PAGE_BYTES)
    last_below = HOLE.start - layout.guest_mfn - 1
    assert layout.mfn(last_below) == HOLE.start - 1
    assert layout.mfn(last_below + 1) == HOLE.stop
    first, second = layout.extents(last_below - 1, 4)
    assert (first.mfn, first.nr_pages) == (HOLE.start - 2, 2)
    assert (second.pfn, second.mfn, second.nr_pages) == (
        last_below + 1,
        HOLE.stop,
        2,
    )


@given(nr_pages=st.integers(1, max_memory_bytes() // PAGE_BYTES))
def test_any_size(nr_pages: int) -> None:
    layout = machine_layout(nr_pages)
    assert layout.m2p_bytes % abi.M2P_ALIGN_BYTES == 0
    # M2P and page types have room for every page and end before the guest.
    assert layout.m2p_bytes >= layout.machine_nr_pages * 8
    types_end = layout.types_gpa + layout.machine_nr_pages * 4
    assert layout.types_gpa == abi.M2P_GPA + layout.m2p_bytes
    assert types_end <= layout.guest_mfn * PAGE_BYTES
    assert layout.guest_mfn * PAGE_BYTES % abi.GUEST_ALIGN_BYTES == 0
    assert layout.mfn(nr_pages - 1) == layout.machine_nr_pages - 1
    extents = list(layout.extents(0, nr_pages))
    assert sum(e.nr_pages for e in extents) == nr_pages
    for extent in extents:
        assert HOLE.start not in range(extent.mfn, extent.mfn + extent.nr_pages)
    ram = sum(size for _gpa, size in layout.ram_ranges())
    assert ram == layout.guest_mfn * PAGE_BYTES + nr_pages * PAGE_BYTES


@given(
    start=st.integers(1, 1 << 21), more=st.integers(0, 1 << 21), data=st.data()
)
def test_what_is_there_from_the_start(
    start: int, more: int, data: st.DataObject
) -> None:
    """The first pages of a layout that is that of all."""
    layout = machine_layout(start + more, start)
    assert layout.ram_ranges() == machine_layout(start + more).ram_ranges()
    ranges = list(layout.start_ranges())
    there = sum(length for _gpa, length in ranges)
    assert there == (layout.guest_mfn + start) * PAGE_BYTES
    pfn = data.draw(st.integers(0, start + more - 1))
    is_there = any(
        gpa <= layout.gpa(pfn) < gpa + length for gpa, length in ranges
    )
    assert is_there == (pfn < start)


def test_largest() -> None:
    nr_pages = max_memory_bytes() // PAGE_BYTES
    end_gib = machine_layout(nr_pages).size_bytes >> 30
    assert end_gib == abi.EMU_DIRECTMAP_MAX_GIB
    with pytest.raises(ValueError, match="more memory than a guest can have"):
        machine_layout(nr_pages + 1)


def test_not_the_guests() -> None:
    layout = machine_layout(10)
    for pfn in (-1, 10):
        with pytest.raises(ValueError):
            layout.mfn(pfn)
    with pytest.raises(ValueError):
        list(layout.extents(5, 6))


def test_xen_owns() -> None:
    assert not xen_owns(0xFFFF7FFFFFFFFFFF)
    assert xen_owns(0xFFFF800000000000)
    assert xen_owns(0xFFFF87FFFFFFFFFF)
    assert not xen_owns(0xFFFF880000000000)
    assert not xen_owns(0x7FFFFFFFFFFF)
