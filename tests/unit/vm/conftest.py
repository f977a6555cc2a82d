# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels made to measure, and a vmcore to build them in."""

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import lz4.block
import lz4.frame
import pytest
import zstandard

from xennerd.vm.boot.kernel import Kernel, parse_kernel
from xennerd.vm.boot.notes import Note

VIRT_BASE = 0xFFFFFFFF80000000


@dataclass(frozen=True, kw_only=True)
class ElfSpec:
    """An ELF file to be; to_bytes() makes it."""

    # (paddr, vaddr, contents, bytes in memory)
    segments: Sequence[tuple[int, int, bytes, int]] = (
        (0x100000, VIRT_BASE + 0x100000, b"\x90" * 0x1800, 0x3000),
    )
    notes: Sequence[tuple[int, bytes]] = ()
    # (name, sh_type, contents)
    sections: Sequence[tuple[str, int, bytes]] = ()
    entry: int = VIRT_BASE + 0x100000
    bits: int = 64
    machine: int = 62

    def to_bytes(self) -> bytes:
        blobs = [(1, *segment) for segment in self.segments]
        if self.notes:
            data = pack_notes(self.notes)
            blobs.append((4, 0, 0, data, len(data)))
        wide = self.bits == 64
        ehdr_bytes, phdr_bytes = (64, 56) if wide else (52, 32)
        at = ehdr_bytes + phdr_bytes * len(blobs)
        headers, body = b"", b""
        for kind, paddr, vaddr, data, memsz in blobs:
            place = (at + len(body), vaddr, paddr, len(data), memsz)
            headers += (
                struct.pack("<IIQQQQQQ", kind, 7, *place, 4)
                if wide
                else struct.pack("<IIIIIIII", kind, *place, 7, 4)
            )
            body += data
        shoff, shnum, table = self._section_table(at + len(body), wide)
        ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1])
        form = "<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH"
        header = struct.pack(
            form, ident, 2, self.machine, 1, self.entry, ehdr_bytes, shoff,
            0, ehdr_bytes, phdr_bytes, len(blobs), 64 if wide else 40, shnum,
            1 if shnum else 0,
        )  # fmt: skip
        return header + headers + body + table

    def _section_table(self, at: int, wide: bool) -> tuple[int, int, bytes]:
        if not self.sections:
            return 0, 0, b""
        names, body, rows = b"\0", b"", []
        for name, kind, data in [(".shstrtab", 3, b""), *self.sections]:
            rows.append([len(names), kind, at + len(body), len(data)])
            names += name.encode() + b"\0"
            body += data
        rows[0][2:] = [at + len(body), len(names)]
        body += names
        form = "<IIQQQQIIQQ" if wide else "<IIIIIIIIII"
        table = bytes(struct.calcsize(form)) + b"".join(
            struct.pack(form, n, k, 0, 0, o, s, 0, 0, 1, 0)
            for n, k, o, s in rows
        )
        return at + len(body), len(rows) + 1, body + table


def pack_notes(notes: Sequence[tuple[int, bytes]]) -> bytes:
    return b"".join(
        struct.pack("<III4s", 4, len(desc), kind, b"Xen")
        + desc.ljust(-(-len(desc) // 4) * 4, b"\0")
        for kind, desc in notes
    )


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


PV_NOTES: tuple[tuple[int, bytes], ...] = (
    (Note.GUEST_OS, b"linux\0"),
    (Note.XEN_VERSION, b"xen-3.0\0"),
    (Note.LOADER, b"generic\0"),
    (Note.VIRT_BASE, u64(VIRT_BASE)),
    (Note.ENTRY, u64(VIRT_BASE + 0x100040)),
)


MODERN = (
    (Note.INIT_P2M, u64(0x8000000000)),
    (Note.MOD_START_PFN, u64(1)),
    (Note.HYPERCALL_PAGE, u64(VIRT_BASE + 0x101000)),
)


@dataclass(frozen=True)
class Kernels:
    """What the tests make kernels of."""

    virt_base: int = VIRT_BASE
    pv_notes: tuple[tuple[int, bytes], ...] = PV_NOTES
    spec: type[ElfSpec] = ElfSpec
    compressors: dict[str, Callable[[bytes], bytes]] = field(
        default_factory=lambda: dict(COMPRESSORS)
    )

    def elf(
        self, *notes: tuple[int, bytes], pv: bool = True, **kwargs: object
    ) -> bytes:
        """An ELF kernel with the usual notes and, later in line, `notes`."""
        usual = self.pv_notes if pv else ()
        return ElfSpec(notes=(*usual, *notes), **kwargs).to_bytes()  # type: ignore[arg-type]

    def bzimage(
        self, elf: bytes, method: str = "gzip", *, size: int | None = None
    ) -> bytes:
        """A bzImage around `elf`; `size`: a wrong size word."""
        packed = COMPRESSORS[method](elf)
        if method == "gzip":
            packed = packed[:-4]
        packed += struct.pack("<I", len(elf) if size is None else size)
        head = bytearray(5 * 512 + 0x100)
        head[0x1F1] = 4
        head[0x1FE:0x200] = b"\x55\xaa"
        head[0x202:0x206] = b"HdrS"
        struct.pack_into("<H", head, 0x206, 0x20F)
        struct.pack_into("<II", head, 0x248, 0x100, len(packed))
        return bytes(head) + packed + b"trailing"


def _lz4_legacy(data: bytes) -> bytes:
    out = b"\x02\x21\x4c\x18"
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(
            data[start : start + (8 << 20)], store_size=False
        )
        out += struct.pack("<I", len(block)) + block
    return out


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda d: lzma.compress(
        d,
        lzma.FORMAT_XZ,
        check=lzma.CHECK_CRC32,
        filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2}],
    ),
    "lzma": lambda d: lzma.compress(d, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "lz4": lz4.frame.compress,
    "lz4-legacy": _lz4_legacy,
    "zstd": lambda d: zstandard.ZstdCompressor().compress(d),
    # Without a content size in the frame, as `zstd <pipe` makes it.
    "zstd-stream": lambda d: _zstd_stream(d),
}


def _zstd_stream(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(data) + packer.flush()


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    return Kernels()


@pytest.fixture(scope="session")
def modern(kernels: Kernels) -> Kernel:
    return parse_kernel(kernels.elf(*MODERN))


@pytest.fixture(scope="session")
def plain(kernels: Kernels) -> Kernel:
    return parse_kernel(kernels.elf())
