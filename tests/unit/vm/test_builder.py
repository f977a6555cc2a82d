# SPDX-License-Identifier: GPL-2.0-or-later
"""The start of day as a guest finds it, by walking its own tables."""

import os
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.vm.guestview import (
    BASE,
    INITRD,
    MIB,
    P2M,
    RW,
    START_INFO,
    US,
    Guest,
    built,
    u64,
)
from xenner import abi
from xenner.errors import ConfigError
from xennerd.vm.boot.builder import MAX_CMDLINE_BYTES, hypercall_page
from xennerd.vm.boot.kernel import Kernel, load_kernel, parse_kernel
from xennerd.vm.boot.notes import Note
from xennerd.vm.memory.layout import PAGE_BYTES


def check_memory(guest: Guest, kernel: Kernel, initrd: bytes) -> None:
    """Everything that start_info names is where it says."""
    core, info = guest.core, guest.info
    layout, nr_pages = core.layout, info["nr_pages"]
    for segment in kernel.segments:
        image = bytearray(segment.memsz_bytes)
        image[: len(segment.data)] = segment.data
        page = kernel.hypercall_page
        if page is not None:
            at = page - segment.vaddr
            image[at : at + PAGE_BYTES] = hypercall_page()
        assert guest.read(segment.vaddr, len(image)) == image
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
    tables = range(
        info["pt_base"], info["pt_base"] + info["nr_pt_frames"] * 4096, 4096
    )
    pages = 0
    while (
        found := guest.walk(kernel.virt_base + pages * PAGE_BYTES)
    ) is not None:
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
        assert (
            guest.start.start_info_gpa
            == (guest.walk(guest.start.guest.start_info_va) or [0])[0]
        )
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
            ["gdb", "-batch", "-nx", "-c", guest.core.path, "-ex", f"x/s {at}"],
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
