# SPDX-License-Identifier: GPL-2.0-or-later
"""Read an ELF file: load segments, notes and named sections, all bounded.

Only what a loader needs, for x86 in both widths; the reference is the
System V ABI, chapters 4 and 5 (elf(5)).
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from xennerd.vm.boot.bzimage import ImageError

PT_LOAD = 1
PT_NOTE = 4
SHT_NOTE = 7
EM_386 = 3
EM_X86_64 = 62

_SHN_XINDEX = 0xFFFF
# Longer than any name that is looked for. All sections may name the same text.
_NAME_BYTES = 64


@dataclass(frozen=True, slots=True)
class Segment:
    """One PT_LOAD: `data` fills the first of `memsz_bytes`, zeros follow."""

    paddr: int
    vaddr: int
    data: memoryview
    memsz_bytes: int


@dataclass(frozen=True, slots=True)
class Section:
    """One section with contents in the file."""

    name: str
    kind: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Elf:
    """An ELF file's parts, in file order."""

    is_64bit: bool
    machine: int
    entry: int
    segments: tuple[Segment, ...]
    note_segments: tuple[memoryview, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where the fields stand: the two widths order p_flags differently."""

    header: struct.Struct
    program: struct.Struct
    section: struct.Struct
    # Index of p_offset, p_vaddr, p_paddr, p_filesz, p_memsz in `program`.
    fields: tuple[int, int, int, int, int]


_SHAPE_32 = _Shape(
    header=struct.Struct("<16xHHIIIIIHHHHHH"),
    program=struct.Struct("<IIIIIIII"),
    section=struct.Struct("<IIIIIIIIII"),
    fields=(1, 2, 3, 4, 5),
)
_SHAPE_64 = _Shape(
    header=struct.Struct("<16xHHIQQQIHHHHHH"),
    program=struct.Struct("<IIQQQQQQ"),
    section=struct.Struct("<IIQQQQIIQQ"),
    fields=(2, 3, 4, 5, 6),
)


def parse_elf(image: bytes | mmap.mmap) -> Elf:
    """Split an ELF file; ImageError if it is not one for x86 or damaged."""
    if len(image) < 52 or image[:4] != b"\x7fELF":
        raise ImageError("not an ELF file")
    if image[4] not in (1, 2) or image[5] != 1:
        raise ImageError("not a little-endian ELF file")
    is_64bit = image[4] == 2
    shape = _SHAPE_64 if is_64bit else _SHAPE_32
    if len(image) < shape.header.size:
        raise ImageError("truncated ELF file: the header is not complete")
    (
        _type,
        machine,
        _version,
        entry,
        phoff,
        shoff,
        _flags,
        _ehsize,
        phentsize,
        phnum,
        shentsize,
        shnum,
        shstrndx,
    ) = shape.header.unpack_from(image)
    if machine not in (EM_386, EM_X86_64):
        raise ImageError(
            f"an ELF file for another machine (e_machine {machine})"
        )
    view = memoryview(image)
    segments: list[Segment] = []
    notes: list[memoryview] = []
    for fields in _entries(view, shape.program, phoff, phentsize, phnum):
        offset, vaddr, paddr, filesz, memsz = (fields[i] for i in shape.fields)
        if fields[0] not in (PT_LOAD, PT_NOTE):
            continue
        data = _slice(view, offset, filesz, "segment")
        if fields[0] == PT_NOTE:
            notes.append(data)
            continue
        if filesz > memsz:
            raise ImageError("corrupt ELF file: a segment overflows its memory")
        segments.append(
            Segment(paddr=paddr, vaddr=vaddr, data=data, memsz_bytes=memsz)
        )
    return Elf(
        is_64bit=is_64bit,
        machine=machine,
        entry=entry,
        segments=tuple(segments),
        note_segments=tuple(notes),
        sections=_sections(view, shape, shoff, shentsize, shnum, shstrndx),
    )


def _entries(
    view: memoryview, form: struct.Struct, offset: int, size: int, count: int
) -> Iterator[tuple[int, ...]]:
    if count and size < form.size:
        raise ImageError("corrupt ELF file: a header table's entries are short")
    table = _slice(view, offset, size * count, "header table")
    for index in range(count):
        yield form.unpack_from(table, index * size)


def _slice(view: memoryview, offset: int, size: int, what: str) -> memoryview:
    if size and offset + size > len(view):
        raise ImageError(
            f"truncated ELF file: a {what} ends at byte {offset + size}, "
            f"the file at {len(view)}"
        )
    return view[offset : offset + size]


def _sections(
    view: memoryview,
    shape: _Shape,
    shoff: int,
    shentsize: int,
    shnum: int,
    shstrndx: int,
) -> tuple[Section, ...]:
    """Name and contents of the sections that have both."""
    if shoff == 0 or shnum == 0 or shstrndx in (0, _SHN_XINDEX):
        return ()
    headers = list(_entries(view, shape.section, shoff, shentsize, shnum))
    if shstrndx >= len(headers):
        raise ImageError("corrupt ELF file: no section holds the section names")
    _, _, _, _, names_at, names_bytes, *_ = headers[shstrndx]
    names = bytes(_slice(view, names_at, names_bytes, "section"))
    sections = []
    for name_at, kind, _flags, _addr, offset, size, *_rest in headers:
        if kind in (0, 8):  # SHT_NULL, SHT_NOBITS: nothing in the file.
            continue
        name = names[name_at : name_at + _NAME_BYTES].split(b"\0", 1)[0]
        sections.append(
            Section(
                name=name.decode("ascii", "replace"),
                kind=kind,
                data=_slice(view, offset, size, "section"),
            )
        )
    return tuple(sections)
