# SPDX-License-Identifier: GPL-2.0-or-later
"""The ELF core format of a vmcore: its headers and register notes, as bytes.

Pure. The formats are elf(5)'s and, for NT_PRSTATUS, struct elf_prstatus of
Linux's include/linux/elfcore.h on x86-64.
"""

import struct
from dataclasses import astuple, dataclass, fields
from typing import Any

from xenner import abi
from xennerd.vm.memory.layout import PAGE_BYTES, MachineLayout

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III8s")
# Up to pr_reg: siginfo, cursig, pending, held, pid, ppid, pgrp, sid, times.
_PRSTATUS_HEAD = struct.Struct("<12sH2xQQIIII64s")
_REGISTERS = struct.Struct("<27Q")
_PRSTATUS_TAIL = struct.Struct("<II")

_PRSTATUS_BYTES = 336
NOTE_BYTES = _NOTE.size + _PRSTATUS_BYTES
"""Size of one vCPU's note; they stand one after the other."""

_ET_CORE, _EM_X86_64 = 4, 62
_PT_LOAD, _PT_NOTE = 1, 4
_NT_PRSTATUS = 1
_PF_RWX = 7


@dataclass(frozen=True, slots=True)
class Registers:
    """One vCPU's registers in the order of struct user_regs_struct."""

    r15: int = 0
    r14: int = 0
    r13: int = 0
    r12: int = 0
    rbp: int = 0
    rbx: int = 0
    r11: int = 0
    r10: int = 0
    r9: int = 0
    r8: int = 0
    rax: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    orig_rax: int = (1 << 64) - 1
    rip: int = 0
    cs: int = 0
    rflags: int = 0
    rsp: int = 0
    ss: int = 0
    fs_base: int = 0
    gs_base: int = 0
    ds: int = 0
    es: int = 0
    fs: int = 0
    gs: int = 0


def registers_from(source: Any) -> Registers:
    """Of a C structure, the fields that are registers; the rest stays 0."""
    names = (field.name for field in fields(Registers))
    return Registers(
        **{n: int(getattr(source, n)) for n in names if hasattr(source, n)}
    )


@dataclass(frozen=True, slots=True)
class KernelView:
    """[virt_base, virt_base + size_bytes) shows the guest from its pfn 0."""

    virt_base: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _ProgramHeader:
    kind: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


def core_header(
    layout: MachineLayout, *, nr_vcpus: int, view: KernelView | None
) -> bytes:
    """The ELF header page: notes, all memory 1:1, and the kernel's view.

    gdb takes the first segment that holds an address, so the view is left
    out when it would hide machine addresses or be hidden by them.
    """
    headers = [
        _ProgramHeader(
            kind=_PT_NOTE,
            flags=0,
            offset=abi.VMCORE_NOTES_GPA,
            vaddr=0,
            paddr=0,
            filesz=nr_vcpus * NOTE_BYTES,
            memsz=0,
            align=4,
        )
    ]
    for gpa, size_bytes in layout.ram_ranges():
        # Not the header page: gdb would read the notes twice if a segment
        # began with an ELF header, and show each vCPU twice.
        start = max(gpa, PAGE_BYTES)
        headers.append(_load(start, start, gpa + size_bytes - start))
    if view is not None and view.virt_base >= layout.size_bytes:
        nr_pages = min(layout.guest_nr_pages, -(-view.size_bytes // PAGE_BYTES))
        for extent in layout.extents(0, nr_pages):
            headers.append(
                _load(
                    extent.mfn * PAGE_BYTES,
                    view.virt_base + extent.pfn * PAGE_BYTES,
                    extent.nr_pages * PAGE_BYTES,
                )
            )
    page = _elf_header(len(headers))
    page += b"".join(_PHDR.pack(*astuple(h)) for h in headers)
    return page.ljust(PAGE_BYTES, b"\0")


def prstatus_note(vcpu: int, registers: Registers) -> bytes:
    """One vCPU's NT_PRSTATUS note; gdb shows vCPU n as thread n + 1."""
    head = _PRSTATUS_HEAD.pack(b"", 0, 0, 0, vcpu + 1, 0, 0, 0, b"")
    return (
        _NOTE.pack(5, _PRSTATUS_BYTES, _NT_PRSTATUS, b"CORE")
        + head
        + _REGISTERS.pack(*(v % (1 << 64) for v in astuple(registers)))
        + _PRSTATUS_TAIL.pack(0, 0)
    )


def _elf_header(phnum: int) -> bytes:
    # 64-bit, little-endian, version 1, System V.
    ident = b"\x7fELF\x02\x01\x01"
    return _EHDR.pack(
        ident,
        _ET_CORE,
        _EM_X86_64,
        1,
        0,
        _EHDR.size,
        0,
        0,
        _EHDR.size,
        _PHDR.size,
        phnum,
        0,
        0,
        0,
    )


def _load(gpa: int, vaddr: int, size_bytes: int) -> _ProgramHeader:
    return _ProgramHeader(
        kind=_PT_LOAD,
        flags=_PF_RWX,
        offset=gpa,
        vaddr=vaddr,
        paddr=gpa,
        filesz=size_bytes,
        memsz=size_bytes,
        align=PAGE_BYTES,
    )
