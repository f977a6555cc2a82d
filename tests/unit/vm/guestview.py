# SPDX-License-Identifier: GPL-2.0-or-later
"""A built domain as its guest sees it: through its own page tables."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xenner import abi
from xenner.types import Domid
from xennerd.vm.boot.builder import StartOfDay, build_domain
from xennerd.vm.boot.kernel import Kernel
from xennerd.vm.emushared import Domain
from xennerd.vm.memory.layout import PAGE_BYTES, machine_layout
from xennerd.vm.memory.vmcore import Vmcore, open_vmcore

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


class Guest:
    """A built domain, looked at through page tables."""

    def __init__(self, core: Vmcore, start: StartOfDay) -> None:
        self.core = core
        self.start = start
        self.info = self.read_start_info()

    def entry(self, table_gpa: int, index: int) -> int:
        (value,) = struct.unpack_from(
            "<Q", self.core.mem, table_gpa + index * 8
        )
        return int(value)

    def walk(
        self, virt: int, root: int | None = None
    ) -> tuple[int, int] | None:
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
        out = bytearray()
        while size:
            found = self.walk(virt)
            assert found is not None, f"{virt:#x} is not mapped"
            part = min(size, PAGE_BYTES - virt % PAGE_BYTES)
            out += self.core.mem[found[0] : found[0] + part]
            virt, size = virt + part, size - part
        return bytes(out)

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
    return (
        header + struct.pack("<IIQQQQQQ", 1, 5, 120, at, at, 3, 8, 1) + b"emu"
    )


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
