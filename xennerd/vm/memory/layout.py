# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are in a guest's machine memory, from its number of pages.

abi/layout.h draws the picture; this file does its arithmetic. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from xenner import abi
from xenner.types import GuestPhys, Mfn, Pfn

PAGE_BYTES = 4096
L2_PAGE_BYTES = 2 << 20
GIB = 1 << 30

_HOLE_MFN = abi.MACHINE_HOLE_GPA // PAGE_BYTES
_HOLE_END_MFN = abi.MACHINE_HOLE_END_GPA // PAGE_BYTES
_HOLE_PAGES = _HOLE_END_MFN - _HOLE_MFN


@dataclass(frozen=True, slots=True)
class Extent:
    """`nr_pages` pages of the guest that are consecutive in machine memory."""

    pfn: Pfn
    mfn: Mfn
    nr_pages: int


@dataclass(frozen=True, slots=True)
class MachineLayout:
    """One guest's machine memory; make it with machine_layout()."""

    guest_nr_pages: int
    """That it can have at most."""
    start_nr_pages: int
    """That it has when it starts: its first ones."""
    guest_mfn: Mfn
    m2p_bytes: int
    # End of the vmcore; pages of the machine hole are counted in.
    machine_nr_pages: int

    @property
    def types_gpa(self) -> GuestPhys:
        """The types of the pages: behind the M2P, up to the guest."""
        return GuestPhys(abi.M2P_GPA + self.m2p_bytes)

    @property
    def size_bytes(self) -> int:
        """Size of the vmcore file, the machine hole included."""
        return self.machine_nr_pages * PAGE_BYTES

    def mfn(self, pfn: int) -> Mfn:
        """The machine page that holds the guest's page `pfn`."""
        if not 0 <= pfn < self.guest_nr_pages:
            raise ValueError(f"pfn {pfn:#x} is not the guest's")
        mfn = self.guest_mfn + pfn
        return Mfn(mfn if mfn < _HOLE_MFN else mfn + _HOLE_PAGES)

    def gpa(self, pfn: int) -> GuestPhys:
        """Machine address of the guest's page `pfn`."""
        return GuestPhys(self.mfn(pfn) * PAGE_BYTES)

    def extents(self, pfn: int, nr_pages: int) -> Iterator[Extent]:
        """Cut guest pages where the machine hole does: one or two pieces."""
        if pfn < 0 or nr_pages < 0 or pfn + nr_pages > self.guest_nr_pages:
            raise ValueError(f"{nr_pages} pages at pfn {pfn:#x}: not all there")
        below = min(nr_pages, max(0, _HOLE_MFN - self.guest_mfn - pfn))
        for start, count in ((pfn, below), (pfn + below, nr_pages - below)):
            if count:
                yield Extent(
                    pfn=Pfn(start), mfn=self.mfn(start), nr_pages=count
                )

    def start_ranges(self) -> Iterator[tuple[GuestPhys, int]]:
        """(machine address, bytes) of the memory that is there from the start:
        all but what the guest may ask for later."""
        yield GuestPhys(0), self.guest_mfn * PAGE_BYTES
        for extent in self.extents(0, self.start_nr_pages):
            gpa = GuestPhys(extent.mfn * PAGE_BYTES)
            yield gpa, extent.nr_pages * PAGE_BYTES

    def ram_ranges(self) -> tuple[tuple[GuestPhys, int], ...]:
        """(machine address, bytes) of all memory: KVM's slots, PT_LOADs."""
        if self.machine_nr_pages <= _HOLE_MFN:
            return ((GuestPhys(0), self.size_bytes),)
        high = GuestPhys(abi.MACHINE_HOLE_END_GPA)
        return (
            (GuestPhys(0), abi.MACHINE_HOLE_GPA),
            (high, self.size_bytes - high),
        )


def machine_layout(nr_pages: int, start_nr_pages: int = 0) -> MachineLayout:
    """Lay out a guest of `nr_pages`, of which it has so many when it starts,
    0: all. ValueError if there are too many."""
    end_mfn = 0
    while True:
        m2p_bytes, guest_gpa = _tables(end_mfn)
        end_mfn, before = guest_gpa // PAGE_BYTES + nr_pages, end_mfn
        if end_mfn > _HOLE_MFN:
            end_mfn += _HOLE_PAGES
        # The tables count themselves: larger ones move the guest up.
        if end_mfn == before:
            break
    if end_mfn * PAGE_BYTES > abi.EMU_DIRECTMAP_MAX_GIB * GIB:
        raise ValueError(
            f"{nr_pages * PAGE_BYTES >> 20} MiB is more memory than a guest "
            f"can have ({max_memory_bytes() >> 20} MiB)"
        )
    return MachineLayout(
        guest_nr_pages=nr_pages,
        start_nr_pages=start_nr_pages or nr_pages,
        guest_mfn=Mfn(guest_gpa // PAGE_BYTES),
        m2p_bytes=m2p_bytes,
        machine_nr_pages=end_mfn,
    )


def max_memory_bytes() -> int:
    """The most memory that emu's tables can map for one guest."""
    machine_bytes: int = abi.EMU_DIRECTMAP_MAX_GIB * GIB
    _m2p_bytes, guest_gpa = _tables(machine_bytes // PAGE_BYTES)
    return machine_bytes - _HOLE_PAGES * PAGE_BYTES - guest_gpa


def _tables(end_mfn: int) -> tuple[int, int]:
    """For pages up to that: bytes of the M2P, and where the guest begins."""
    m2p_bytes = _round_up(end_mfn * 8, abi.M2P_ALIGN_BYTES)
    end = abi.M2P_GPA + m2p_bytes + end_mfn * abi.PAGE_TYPE_BYTES
    return m2p_bytes, _round_up(end, abi.GUEST_ALIGN_BYTES)


def xen_owns(virt: int) -> bool:
    """Is the virtual address in the part that belongs to Xen?"""
    slot = virt >> 39 & 511
    return bool(abi.XEN_FIRST_SLOT <= slot < abi.XEN_END_SLOT)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
