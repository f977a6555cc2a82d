# SPDX-License-Identifier: GPL-2.0-or-later
"""The start of day as a guest would find it: by walking its own tables."""

import os
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xenner import abi
from xenner.errors import ConfigError
from xenner.types import Domid
from xennerd.vm.builder import (
    MAX_CMDLINE_BYTES,
    StartOfDay,
    build_domain,
    hypercall_page,
)
from xennerd.vm.emushared import Clock, Domain
from xennerd.vm.kernel import Kernel, load_kernel, parse_kernel
from xennerd.vm.layout import PAGE_BYTES, machine_layout
from xennerd.vm.notes import Note
from xennerd.vm.vmcore import Vmcore, open_vmcore

BASE = 0xFFFFFFFF80000000
P2M = 0x8000000000
INITRD = b"initrd" * 3000
MIB = 1 << 20
P, RW, US, PS = 1, 2, 4, 0x80
# struct start_info: offsets are checked against the header below.
START_INFO = {
    "magic": (0, "32s"),
    "nr_pages": (32, "Q"),
    "shared_info": (40, "Q"),
    "flags": (48, "I"),
    "store_mfn": (56, "Q"),
    "store_evtchn": (64, "I"),
    "console.domU.mfn": (72, "Q"),
    "console.domU.evtchn": (80, "I"),
    "pt_base": (88, "Q"),
    "nr_pt_frames": (96, "Q"),
    "mfn_list": (104, "Q"),
    "mod_start": (112, "Q"),
    "mod_len": (120, "Q"),
    "cmd_line": (128, "1024s"),
    "first_p2m_pfn": (1152, "Q"),
    "nr_p2m_frames": (1160, "Q"),
}


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


MODERN = (
    (Note.INIT_P2M, u64(P2M)),
    (Note.MOD_START_PFN, u64(1)),
    (Note.HYPERCALL_PAGE, u64(BASE + 0x101000)),
)


class Guest:
    """A built domain, looked at through page tables."""

    def __init__(self, core: Vmcore, start: StartOfDay) -> None:
        self.core = core
        self.start = start
        self.info = self.read_start_info()

    def entry(self, table_gpa: int, index: int) -> int:
        (value,) = struct.unpack_from("<Q", self.core.mem, table_gpa + index * 8)
        return int(value)

    def walk(self, virt: int, root: int | None = None) -> tuple[int, int] | None:
        """(machine address, rights that hold at every level) or None."""
        gpa = self.start.guest.cr3 if root is None else root
        rights = RW | US
        for level in (4, 3, 2, 1):
            shift = 3 + 9 * level
            entry = self.entry(gpa, virt >> shift & 511)
            if not entry & P:
                return None
            rights &= entry
            gpa = entry & 0x000FFFFFFFFFF000
            if level > 1 and entry & PS:
                return gpa + virt % (1 << shift), rights
        return gpa + virt % PAGE_BYTES, rights

    def read(self, virt: int, size: int) -> bytes:
        out = b""
        while size:
            found = self.walk(virt)
            assert found is not None, f"{virt:#x} is not mapped"
            part = min(size, PAGE_BYTES - virt % PAGE_BYTES)
            out += self.core.mem[found[0] : found[0] + part]
            virt, size = virt + part, size - part
        return out

    def read_start_info(self) -> Any:
        page = self.read(self.start.guest.start_info_va, PAGE_BYTES)
        return {
            name: struct.unpack_from("<" + form, page, at)[0]
            for name, (at, form) in START_INFO.items()
        }


def emu_image(**changes: Any) -> bytes:
    at = abi.DIRECTMAP_VIRT + abi.EMU_IMAGE_GPA + changes.get("off", 0)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, at + 16, 64, 0, 0,
        64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    return header + struct.pack("<IIQQQQQQ", 1, 5, 120, at, at, 3, 8, 1) + b"emu"


@contextmanager
def built(
    tmp_path: Path,
    kernel: Kernel,
    *,
    mib: int = 64,
    initrd: bytes | None = INITRD,
    cmdline: bytes = b"console=hvc0",
    **domain: Any,
) -> Iterator[Guest]:
    layout = machine_layout(mib * MIB // PAGE_BYTES)
    with open_vmcore(
        Domid(5), layout=layout, nr_vcpus=1, runtime_dir=tmp_path
    ) as core:
        start = build_domain(
            core,
            kernel=kernel,
            initrd=initrd,
            cmdline=cmdline,
            emu_image=emu_image(),
            domain=Domain(domid=5, nr_vcpus=1, **domain),
        )
        yield Guest(core, start)


@pytest.fixture(scope="session")
def modern(kernels: Any) -> Kernel:
    return parse_kernel(kernels.elf(*MODERN))


@pytest.fixture(scope="session")
def plain(kernels: Any) -> Kernel:
    return parse_kernel(kernels.elf())


def check_memory(guest: Guest, kernel: Kernel, initrd: bytes) -> None:
    """Everything that start_info names is where it says."""
    core, info = guest.core, guest.info
    layout, nr_pages = core.layout, info["nr_pages"]
    for segment in kernel.segments:
        data = bytes(segment.data)
        if kernel.hypercall_page is None:
            assert guest.read(segment.vaddr, len(data)) == data
        tail = segment.memsz_bytes - len(data)
        assert guest.read(segment.vaddr + len(data), tail) == bytes(tail)
    mfns = struct.unpack(
        f"<{nr_pages}Q", guest.read(info["mfn_list"], nr_pages * 8)
    )
    assert mfns == tuple(layout.mfn(pfn) for pfn in range(nr_pages))
    if kernel.mod_start_pfn:
        gpa = layout.gpa(info["mod_start"])
        assert core.mem[gpa : gpa + len(initrd)] == initrd
    else:
        assert guest.read(info["mod_start"], len(initrd)) == initrd
    assert info["mod_len"] == len(initrd)


def check_tables(guest: Guest, kernel: Kernel) -> None:
    """The initial mapping is 1:1 from virt_base and guards its tables."""
    info, layout = guest.info, guest.core.layout
    tables = range(info["pt_base"], info["pt_base"] + info["nr_pt_frames"] * 4096, 4096)
    pages = 0
    while (found := guest.walk(kernel.virt_base + pages * PAGE_BYTES)) is not None:
        virt = kernel.virt_base + pages * PAGE_BYTES
        assert found[0] == layout.gpa(pages)
        assert found[1] == (US if virt in tables else US | RW)
        pages += 1
        if virt + PAGE_BYTES == 1 << 64 or pages == layout.guest_nr_pages:
            break
    end = kernel.virt_base + pages * PAGE_BYTES
    assert end % (4 << 20) == 0
    stack = guest.start.guest.rsp
    assert stack == tables.stop + PAGE_BYTES
    assert end - stack >= 512 << 10
    assert guest.walk(info["pt_base"]) == (guest.start.guest.cr3, US)
    # Every table page lies in memory of the guest's own.
    assert all(guest.walk(virt) is not None for virt in tables)


@pytest.mark.parametrize("mib", [16, 64])
def test_modern_kernel(tmp_path: Path, modern: Kernel, mib: int) -> None:
    with built(tmp_path, modern, mib=mib) as guest:
        check_memory(guest, modern, INITRD)
        check_tables(guest, modern)
        info = guest.info
        assert info["flags"] == 1 << 3
        assert info["mfn_list"] == P2M
        # The list and its own three tables, behind the initial mapping.
        assert info["nr_p2m_frames"] == mib * 256 * 8 // PAGE_BYTES + 3
        first = guest.core.layout.gpa(info["first_p2m_pfn"])
        assert guest.walk(P2M) == (first, RW | US)
        page = guest.read(BASE + 0x101000, PAGE_BYTES)
        assert page == hypercall_page()


def test_plain_kernel(tmp_path: Path, plain: Kernel) -> None:
    with built(tmp_path, plain) as guest:
        check_memory(guest, plain, INITRD)
        check_tables(guest, plain)
        info = guest.info
        assert info["flags"] == 0
        assert info["mod_start"] == BASE + 0x103000
        assert info["mfn_list"] == BASE + 0x103000 + 5 * PAGE_BYTES
        assert info["first_p2m_pfn"] == info["nr_p2m_frames"] == 0


def test_kernel_at_0_with_list_beside(tmp_path: Path, kernels: Any) -> None:
    """A 1:1 kernel whose page list shares upper tables with it."""
    kernel = parse_kernel(
        kernels.elf(
            (Note.LOADER, b"generic\0"),
            (Note.XEN_VERSION, b"xen-3.0\0"),
            (Note.INIT_P2M, u64(0x40000000)),
            pv=False,
            segments=[(0x1000, 0x1000, b"\x90" * 10, 0x1000)],
            entry=0x1000,
        )
    )
    with built(tmp_path, kernel, initrd=None, mib=8) as guest:
        check_memory(guest, kernel, b"")
        # Only an L2 and an L1 are its own; root and L3 are shared.
        assert guest.info["nr_p2m_frames"] == 4 + 2
        assert guest.info["mod_start"] == guest.info["flags"] == 0


def test_start_info(tmp_path: Path, modern: Kernel) -> None:
    with built(tmp_path, modern, console_port=2) as guest:
        info, layout = guest.info, guest.core.layout
        assert info["magic"].rstrip(b"\0") == b"xen-3.0-x86_64"
        assert info["nr_pages"] == 64 * MIB // PAGE_BYTES
        assert info["shared_info"] == abi.SHARED_INFO_GPA
        assert info["cmd_line"].rstrip(b"\0") == b"console=hvc0"
        assert info["console.domU.evtchn"] == 2
        console = info["console.domU.mfn"] * PAGE_BYTES
        assert console == guest.start.console_gpa
        assert info["store_mfn"] == info["store_evtchn"] == 0
        assert guest.start.start_info_gpa == (
            guest.walk(guest.start.guest.start_info_va) or [0]
        )[0]
        assert console > layout.guest_mfn * PAGE_BYTES
        assert guest.start.guest.rip == modern.entry


def test_xenstore(tmp_path: Path, modern: Kernel) -> None:
    with built(tmp_path, modern, store_port=1) as guest:
        assert guest.info["store_evtchn"] == 1
        gpa = guest.info["store_mfn"] * PAGE_BYTES
        assert gpa == guest.start.store_gpa


def test_start_info_matches_the_header(tmp_path: Path) -> None:
    lines = "".join(
        f'printf("{name} %zu\\n", offsetof(struct start_info, {name}));'
        for name in START_INFO
    )
    source = tmp_path / "offsets.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n"
        "#include <xen/xen.h>\n"
        f"int main(void) {{ {lines} "
        'printf("mask %zu\\n", offsetof(struct shared_info, evtchn_mask));'
        'printf("wc %zu\\n", offsetof(struct shared_info, wc_version)); }\n'
    )
    subprocess.run(
        ["cc", "-o", str(tmp_path / "offsets"), str(source)], check=True
    )
    out = subprocess.check_output([str(tmp_path / "offsets")], text=True)
    found = dict(re.findall(r"(\S+) (\d+)", out))
    expected = {name: str(at) for name, (at, _form) in START_INFO.items()}
    assert found == expected | {"mask": "2560", "wc": "3072"}


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


def test_shared_pages(tmp_path: Path, modern: Kernel) -> None:
    cpuid = [
        SimpleNamespace(leaf=1, subleaf=2, flags=0, eax=3, ebx=4, ecx=5, edx=7)
    ]
    clock = Clock(wc_sec=1 << 33 | 5, wc_nsec=9, tsc_shift=-3, tsc_timestamp=8)
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


def test_hypercall_page() -> None:
    page = hypercall_page()
    assert len(page) == PAGE_BYTES
    assert page[32:46].hex() == "514153b8010000000f05415b59c3"
    assert page[23 * 32 :][:11].hex() == "51415350b8170000000f05"[:22]


def test_long_cmdline(tmp_path: Path, plain: Kernel) -> None:
    line = b"x" * MAX_CMDLINE_BYTES
    with built(tmp_path, plain, cmdline=line) as guest:
        assert guest.info["cmd_line"] == line + b"\0"
    with (
        pytest.raises(ConfigError, match="has 1024 bytes"),
        built(tmp_path, plain, cmdline=line + b"x"),
    ):
        pass
    assert os.listdir(tmp_path) == []


def _least_mib(tmp_path: Path, kernel: Kernel, initrd: bytes | None) -> int:
    with (
        pytest.raises(ConfigError, match="too little memory") as refused,
        built(tmp_path, kernel, mib=1, initrd=initrd),
    ):
        pass
    found = re.search(r"at least (\d+) MiB", str(refused.value))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("initrd", [None, bytes(9 * MIB)])
def test_too_little_memory(
    tmp_path: Path, modern: Kernel, initrd: bytes | None
) -> None:
    """The least that the error names is enough, and one less is not."""
    least = _least_mib(tmp_path, modern, initrd)
    with built(tmp_path, modern, mib=least, initrd=initrd):
        pass
    with (
        pytest.raises(ConfigError, match=f"at least {least} MiB"),
        built(tmp_path, modern, mib=least - 1, initrd=initrd),
    ):
        pass


def test_list_over_the_kernel(tmp_path: Path, kernels: Any) -> None:
    kernel = parse_kernel(kernels.elf((Note.INIT_P2M, u64(BASE + 0x200000))))
    with pytest.raises(ConfigError, match="page list"), built(tmp_path, kernel):
        pass


def test_gdb_finds_the_kernel(tmp_path: Path, plain: Kernel) -> None:
    with built(tmp_path, plain, cmdline=b"unmistakable") as guest:
        at = guest.start.guest.start_info_va + START_INFO["cmd_line"][0]
        out = subprocess.check_output(
            ["gdb", "-batch", "-nx", "-c", str(guest.core.path)]
            + ["-ex", f"x/s {at:#x}"],
            text=True,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    assert '"unmistakable"' in out


def test_debian_kernel(tmp_path: Path, debian_kernel: Path) -> None:
    kernel = load_kernel(debian_kernel)
    with built(tmp_path, kernel, mib=128) as guest:
        check_tables(guest, kernel)
        check_memory(guest, kernel, INITRD)
        found = guest.walk(kernel.entry)
        assert found is not None
