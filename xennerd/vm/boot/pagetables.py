# SPDX-License-Identifier: GPL-2.0-or-later
"""Page tables built from outside: emu's own and a guest's first ones.

Pure: values in, arrays of 512 entries out. Bits as in Intel's SDM volume 3,
4.5; no entry is global, because guests share the address space with emu.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xenner import abi
from xenner.types import GuestPhys
from xennerd.vm.memory.layout import (
    GIB,
    L2_PAGE_BYTES,
    PAGE_BYTES,
    MachineLayout,
)

PRESENT = 0x1
WRITABLE = 0x2
USER = 0x4
ACCESSED = 0x20
DIRTY = 0x40
LARGE = 0x80

TABLE = PRESENT | WRITABLE | USER | ACCESSED
GUEST_TABLE = TABLE | DIRTY
GUEST_PAGE = TABLE | DIRTY
READ_ONLY = ~WRITABLE

ENTRIES = 512


def empty_table() -> "array[int]":
    """A table with nothing present."""
    return array("Q", bytes(PAGE_BYTES))


def consecutive(first: int, count: int, step: int = 1) -> "array[int]":
    """first, first + step, ...: `count` 64-bit values."""
    return array("Q", range(first, first + count * step, step))


def emu_root_slots(*, is_ring0_slow: bool) -> dict[int, int]:
    """emu's entries of every root: L4 slot -> entry.

    On a KVM that interprets ring 0 emu's C runs at ring 3, so only there
    does the direct map's slot have the user bit.
    """
    directmap = TABLE if is_ring0_slow else TABLE & ~USER
    return {
        abi.M2P_ALIAS_SLOT: _gpa(abi.EMU_TABLE_L3_M2P) | TABLE,
        abi.DIRECTMAP_SLOT: _gpa(abi.EMU_TABLE_L3_DIRECTMAP) | directmap,
        abi.M2P_SLOT: _gpa(abi.EMU_TABLE_L3_M2P) | TABLE,
        abi.WINDOWS_SLOT: _gpa(abi.EMU_TABLE_L3_WINDOWS) | TABLE,
    }


def emu_tables(
    layout: MachineLayout, *, is_ring0_slow: bool
) -> Iterator[tuple[GuestPhys, "array[int]"]]:
    """emu's own tables with their machine addresses, as layout.h lists them.

    The L1 tables of the windows stay empty: emu fills them.
    """
    root = empty_table()
    for slot, entry in emu_root_slots(is_ring0_slow=is_ring0_slow).items():
        root[slot] = entry
    yield _gpa(abi.EMU_TABLE_L4), root

    l3_windows, l2_windows = empty_table(), empty_table()
    l3_windows[0] = _gpa(abi.EMU_TABLE_L2_WINDOWS) | TABLE
    l2_windows[0] = _gpa(abi.EMU_TABLE_L1_GDT) | TABLE
    l2_windows[1] = _gpa(abi.EMU_TABLE_L1_LDT) | TABLE
    yield _gpa(abi.EMU_TABLE_L3_WINDOWS), l3_windows
    yield _gpa(abi.EMU_TABLE_L2_WINDOWS), l2_windows

    m2p = [(abi.M2P_GPA, layout.m2p_bytes)]
    yield from _large_page_tables(
        abi.EMU_TABLE_L3_M2P,
        abi.EMU_TABLE_L2_M2P,
        # Each range with its distance from the start of the slot.
        ((0, gpa, size_bytes) for gpa, size_bytes in m2p),
        flags=TABLE & READ_ONLY | DIRTY | LARGE,
    )
    yield from _large_page_tables(
        abi.EMU_TABLE_L3_DIRECTMAP,
        abi.EMU_TABLE_L2_DIRECTMAP,
        ((gpa, gpa, size_bytes) for gpa, size_bytes in layout.ram_ranges()),
        flags=TABLE | DIRTY | LARGE,
    )


def _gpa(table: int) -> GuestPhys:
    return GuestPhys(abi.EMU_TABLES_GPA + table * PAGE_BYTES)


def _large_page_tables(
    l3_table: int,
    first_l2_table: int,
    ranges: Iterable[tuple[int, int, int]],
    *,
    flags: int,
) -> Iterator[tuple[GuestPhys, "array[int]"]]:
    """An L3 and its L2s of 2 MiB pages: (offset in the slot, gpa, bytes)."""
    l3 = empty_table()
    l2s: dict[int, array[int]] = {}
    for offset, gpa, size_bytes in ranges:
        done = 0
        while done < size_bytes:
            index, start = divmod(offset + done, GIB)
            at = start // L2_PAGE_BYTES
            left = -(-(size_bytes - done) // L2_PAGE_BYTES)
            count = min(ENTRIES - at, left)
            l2 = l2s.setdefault(index, empty_table())
            l2[at : at + count] = consecutive(
                (gpa + done) | flags, count, L2_PAGE_BYTES
            )
            l3[index] = _gpa(first_l2_table + index) | TABLE
            done += count * L2_PAGE_BYTES
    yield _gpa(l3_table), l3
    for index, l2 in l2s.items():
        yield _gpa(first_l2_table + index), l2


@dataclass(frozen=True, slots=True)
class Mapping:
    """`nr_pages` guest pages from `pfn` on, to be seen at `virt`."""

    virt: int
    pfn: int
    nr_pages: int

    @property
    def virt_end(self) -> int:
        """One past the last byte."""
        return self.virt + self.nr_pages * PAGE_BYTES


TableKey = tuple[int, int]
"""Level (4 is the root) and which of that level's tables, from address 0."""


def table_keys(mapping: Mapping) -> list[TableKey]:
    """The tables that a mapping needs, root first, each level in order."""
    keys = [(4, 0)]
    for level in (3, 2, 1):
        shift = 12 + 9 * level
        # Slots of the address as 48 bits, so that the upper half counts on.
        first = _low48(mapping.virt) >> shift
        last = _low48(mapping.virt_end - 1) >> shift
        keys += [(level, index) for index in range(first, last + 1)]
    return keys


def guest_tables(
    layout: MachineLayout,
    *,
    mappings: Iterable[Mapping],
    table_pfns: dict[TableKey, int],
    read_only_pfns: range,
    root_slots: dict[int, int],
) -> dict[int, "array[int]"]:
    """A guest's first page tables: pfn of the table -> its entries.

    Every level has the user bit, since the guest's kernel runs at ring 3.
    Pages of `read_only_pfns` (the tables) are mapped without write access.
    """
    tables = {key: empty_table() for key in table_pfns}
    for (level, index), pfn in table_pfns.items():
        if level < 4:
            upper = tables[level + 1, index // ENTRIES if level < 3 else 0]
            upper[index % ENTRIES] = layout.gpa(pfn) | GUEST_TABLE
    for slot, entry in root_slots.items():
        tables[4, 0][slot] = entry
    for mapping in mappings:
        _fill_l1(layout, mapping, tables)
        for pfn in _overlap(mapping, read_only_pfns):
            page = (_low48(mapping.virt) >> 12) + pfn - mapping.pfn
            tables[1, page // ENTRIES][page % ENTRIES] &= READ_ONLY
    return {pfn: tables[key] for key, pfn in table_pfns.items()}


def _fill_l1(
    layout: MachineLayout,
    mapping: Mapping,
    tables: dict[TableKey, "array[int]"],
) -> None:
    for extent in layout.extents(mapping.pfn, mapping.nr_pages):
        page = (_low48(mapping.virt) >> 12) + extent.pfn - mapping.pfn
        done = 0
        while done < extent.nr_pages:
            index, at = divmod(page + done, ENTRIES)
            count = min(ENTRIES - at, extent.nr_pages - done)
            tables[1, index][at : at + count] = consecutive(
                (extent.mfn + done) * PAGE_BYTES | GUEST_PAGE,
                count,
                PAGE_BYTES,
            )
            done += count


def _overlap(mapping: Mapping, pfns: range) -> range:
    start = max(mapping.pfn, pfns.start)
    return range(start, min(mapping.pfn + mapping.nr_pages, pfns.stop))


def _low48(virt: int) -> int:
    return virt % (1 << 48)
