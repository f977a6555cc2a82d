# SPDX-License-Identifier: GPL-2.0-or-later
"""What emu finds when it starts: its tables, the M2P, the shared pages."""

import os
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.vm.guestview import P2M, RW, US, P, built, u64
from xenner import abi
from xennerd.vm.boot.builder import _write_guest_bytes
from xennerd.vm.boot.kernel import Kernel
from xennerd.vm.clock import Clock, Rate
from xennerd.vm.memory import vmcore as vmcore_module
from xennerd.vm.memory.layout import PAGE_BYTES, MachineLayout


@pytest.mark.parametrize("quirks", [0, abi.EMU_QUIRK_SLOW_RING0])
def test_emu_tables(tmp_path: Path, modern: Kernel, quirks: int) -> None:
    with built(tmp_path, modern, quirks=quirks) as guest:
        root = guest.start.emu_cr3
        assert root == abi.EMU_TABLES_GPA
        user = US if quirks else 0
        size = guest.core.layout.size_bytes
        for cr3 in (root, guest.start.guest.cr3):
            for gpa in (0, 0x10123, abi.M2P_GPA, size - 1):
                virt = abi.DIRECTMAP_VIRT + gpa
                assert guest.walk(virt, cr3) == (gpa, RW | user)
            for virt in (abi.M2P_VIRT, abi.M2P_ALIAS_SLOT << 39 | 0xFFFF << 48):
                assert guest.walk(virt + 8, cr3) == (abi.M2P_GPA + 8, US)
                end = virt + guest.core.layout.m2p_bytes
                assert guest.walk(end - 8, cr3) is not None
                assert guest.walk(end, cr3) is None
            for virt, table in (
                (abi.GDT_WINDOW_VIRT, abi.EMU_TABLE_L1_GDT),
                (abi.LDT_WINDOW_VIRT, abi.EMU_TABLE_L1_LDT),
            ):
                assert guest.walk(virt, cr3) is None
                gpa = abi.EMU_TABLES_GPA + table * PAGE_BYTES
                guest.core.mem[gpa : gpa + 8] = u64(0x5000 | P)
                assert (guest.walk(virt, cr3) or [0])[0] == 0x5000
                guest.core.mem[gpa : gpa + 8] = u64(0)
        for index in range(512):
            if not 256 <= index < 260:
                assert guest.entry(root, index) == 0


def test_m2p(tmp_path: Path, modern: Kernel) -> None:
    with built(tmp_path, modern) as guest:
        layout = guest.core.layout
        entries = layout.m2p_bytes // 8
        table = struct.unpack_from(f"<{entries}Q", guest.core.mem, abi.M2P_GPA)
        none = (1 << 64) - 1
        first, count = layout.guest_mfn, layout.guest_nr_pages
        assert table[:first] == (none,) * first
        assert table[first : first + count] == tuple(range(count))
        assert set(table[first + count :]) == {none}


def test_page_types(tmp_path: Path, modern: Kernel) -> None:
    """What the first root reaches is a table, and nothing else is."""
    with built(tmp_path, modern) as guest:
        layout = guest.core.layout
        types = struct.unpack_from(
            f"<{layout.machine_nr_pages}I", guest.core.mem, layout.types_gpa
        )
        root = guest.start.guest.cr3
        expected = {
            root // PAGE_BYTES: 4 | abi.EMU_TYPE_REF | abi.EMU_TYPE_PINNED
        }
        tables = [root]
        for level in (3, 2, 1):
            entries = [
                guest.entry(table, index)
                for table in tables
                for index in range(512)
                if not 256 <= index < 272 or level < 3
            ]
            tables = [e & 0xFFFFFFFFFF000 for e in entries if e & P]
            expected |= {
                table // PAGE_BYTES: level | abi.EMU_TYPE_REF
                for table in tables
            }
        found = {mfn: word for mfn, word in enumerate(types) if word}
        assert found == expected


def test_shared_pages(tmp_path: Path, modern: Kernel) -> None:
    cpuid = [
        SimpleNamespace(leaf=1, subleaf=2, flags=0, eax=3, ebx=4, ecx=5, edx=7)
    ]
    clock = Clock(
        tsc_timestamp=8,
        system_time_ns=0,
        rate=Rate(mul=0, shift=-3),
        wall_ns=(1 << 33 | 5) * 1_000_000_000 + 9,
    )
    handle = bytes(range(16))
    with built(
        tmp_path, modern, cpuid=cpuid, clock=clock, handle=handle, tsc_khz=77
    ) as guest:
        shared = abi.view("emu_shared", guest.core.mem, abi.EMU_SHARED_GPA)
        layout = guest.core.layout
        try:
            assert shared.magic == abi.EMU_ABI_MAGIC
            assert shared.bytes == abi.sizeof("emu_shared")
            assert shared.guest_mfn == layout.guest_mfn
            assert shared.machine_nr_pages == layout.machine_nr_pages
            assert shared.m2p_nr_entries == layout.m2p_bytes // 8
            assert shared.start_cr3 == guest.start.guest.cr3
            assert shared.start_rip == modern.entry
            assert shared.nr_cpuid == 1
            assert (shared.cpuid[0].leaf, shared.cpuid[0].edx) == (1, 7)
            assert bytes(shared.handle) == handle
            assert shared.clock.tsc_shift == -3
            assert shared.tsc_khz == 77
        finally:
            del shared  # Or the mapping could not be closed.
        page = guest.core.mem[abi.SHARED_INFO_GPA :][:PAGE_BYTES]
        for vcpu in range(32):
            assert page[vcpu * 64 : vcpu * 64 + 64] == b"\0\1" + bytes(62)
        assert page[2048:2560] == bytes(512)
        assert page[2560:3072] == b"\xff" * 512
        assert struct.unpack_from("<IIII", page, 3072) == (2, 5, 9, 2)


def test_emu_is_loaded(tmp_path: Path, modern: Kernel) -> None:
    with built(tmp_path, modern) as guest:
        assert guest.core.mem[abi.EMU_IMAGE_GPA :][:4] == b"emu\0"
        assert guest.start.emu_entry == abi.DIRECTMAP_VIRT + 0x10010


def test_across_the_machine_hole(
    tmp_path: Path, modern: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that reaches over the hole: list, M2P and mapping follow."""

    def sparse(fd: int, _directory: Path, layout: MachineLayout) -> None:
        os.ftruncate(fd, layout.size_bytes)

    monkeypatch.setattr(vmcore_module, "_reserve", sparse)
    monkeypatch.setattr(vmcore_module, "_check_room", lambda *_a, **_k: None)
    mib = 4200
    with built(tmp_path, modern, mib=mib) as guest:
        layout, core = guest.core.layout, guest.core
        hole = abi.MACHINE_HOLE_GPA // PAGE_BYTES
        after = abi.MACHINE_HOLE_END_GPA // PAGE_BYTES
        edge = hole - layout.guest_mfn
        listed = guest.read(P2M + (edge - 1) * 8, 16)
        assert struct.unpack("<QQ", listed) == (hole - 1, after)
        m2p = struct.Struct("<Q")
        for mfn, pfn in (
            (hole - 1, edge - 1),
            (hole, (1 << 64) - 1),
            (after - 1, (1 << 64) - 1),
            (after, edge),
            (layout.machine_nr_pages - 1, layout.guest_nr_pages - 1),
        ):
            assert m2p.unpack_from(core.mem, abi.M2P_GPA + mfn * 8) == (pfn,)
        for gpa in (abi.MACHINE_HOLE_GPA - 1, abi.MACHINE_HOLE_END_GPA):
            virt = abi.DIRECTMAP_VIRT + gpa
            assert (guest.walk(virt, guest.start.emu_cr3) or [0])[0] == gpa
        hole_virt = abi.DIRECTMAP_VIRT + abi.MACHINE_HOLE_GPA
        assert guest.walk(hole_virt, guest.start.emu_cr3) is None
        # An initrd can lie across it, however unlikely.
        paddr = (edge - 1) * PAGE_BYTES + 5
        _write_guest_bytes(core, paddr, b"a" * PAGE_BYTES + b"b")
        end = abi.MACHINE_HOLE_GPA
        assert core.mem[end - PAGE_BYTES + 5 : end] == b"a" * 4091
        start = abi.MACHINE_HOLE_END_GPA
        assert core.mem[start : start + 7] == b"aaaaab\0"
        done = subprocess.run(
            ["readelf", "-a", str(core.path)], capture_output=True, text=True
        )
        assert done.stderr == ""
        assert done.stdout.count("  LOAD ") == 3
