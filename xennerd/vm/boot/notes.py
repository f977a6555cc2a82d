# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel says about itself to Xen: ELF notes or `__xen_guest`.

Meanings and defaults are those of Xen's public elfnote.h and of its libelf,
which looks at PT_NOTE segments, then SHT_NOTE sections, then the section
`__xen_guest` of kernels before 2007, and believes the first that it finds.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from xennerd.vm.boot.bzimage import ImageError
from xennerd.vm.boot.elf import SHT_NOTE, Elf

_MAX_NOTES = 4096
# Longer than any text that Xen knows. All segments may be the same bytes.
_TEXT_BYTES = 4096


class Note(IntEnum):
    """XEN_ELFNOTE_* of Xen's public elfnote.h."""

    INFO = 0
    ENTRY = 1
    HYPERCALL_PAGE = 2
    VIRT_BASE = 3
    PADDR_OFFSET = 4
    XEN_VERSION = 5
    GUEST_OS = 6
    GUEST_VERSION = 7
    LOADER = 8
    PAE_MODE = 9
    FEATURES = 10
    BSD_SYMTAB = 11
    HV_START_LOW = 12
    L1_MFN_VALID = 13
    SUSPEND_CANCEL = 14
    INIT_P2M = 15
    MOD_START_PFN = 16
    SUPPORTED_FEATURES = 17
    PHYS32_ENTRY = 18


_STRINGS = frozenset(
    {
        Note.XEN_VERSION,
        Note.GUEST_OS,
        Note.GUEST_VERSION,
        Note.LOADER,
        Note.PAE_MODE,
        Note.FEATURES,
        Note.BSD_SYMTAB,
    }
)


@dataclass(frozen=True, slots=True)
class XenNotes:
    """Numbers and texts by note; `is_section` if from `__xen_guest`."""

    numbers: Mapping[Note, int] = field(default_factory=dict)
    texts: Mapping[Note, str] = field(default_factory=dict)
    is_section: bool = False

    def number(self, note: Note) -> int | None:
        """The note's value, None if the kernel has no such note."""
        return self.numbers.get(note)

    def text(self, note: Note) -> str:
        """The note's text, empty if the kernel has no such note."""
        return self.texts.get(note, "")

    @property
    def required_features(self) -> frozenset[str]:
        """Names of the features without which the kernel cannot run."""
        names = self.text(Note.FEATURES).split("|")
        return frozenset(name[1:] for name in names if name.startswith("!"))


def read_notes(elf: Elf) -> XenNotes | None:
    """What the kernel tells Xen, None if it says nothing."""
    sections = [s.data for s in elf.sections if s.kind == SHT_NOTE]
    for blobs in (elf.note_segments, sections):
        found = list(_xen_notes(blobs))
        if found:
            return _decode(found)
    for section in elf.sections:
        if section.name == "__xen_guest":
            return parse_guest_section(bytes(section.data))
    return None


def _xen_notes(blobs: Iterable[memoryview]) -> Iterator[tuple[int, bytes]]:
    """Type and contents of the notes of owner "Xen".

    The last text may end behind its room, as that of GRUB's i386 kernel does:
    then it is what there is of it. Half a number is none.
    """
    count = 0
    for blob in blobs:
        at = 0
        while at + 12 <= len(blob):
            name_bytes, desc_bytes, kind = struct.unpack_from("<III", blob, at)
            name_at = at + 12
            desc_at = name_at + (name_bytes + 3) // 4 * 4
            end = desc_at + desc_bytes
            count += 1
            is_text = kind in _STRINGS and desc_at <= len(blob)
            if (end > len(blob) and not is_text) or count > _MAX_NOTES:
                raise ImageError(
                    "corrupt ELF file: its notes overrun their room"
                )
            if bytes(blob[name_at : name_at + name_bytes]) == b"Xen\0":
                yield (
                    kind,
                    bytes(blob[desc_at : min(end, desc_at + _TEXT_BYTES)]),
                )
            at = desc_at + (desc_bytes + 3) // 4 * 4


def _decode(found: Iterable[tuple[int, bytes]]) -> XenNotes:
    numbers: dict[Note, int] = {}
    texts: dict[Note, str] = {}
    known = {note.value: note for note in Note}
    for kind, desc in found:
        note = known.get(kind)
        if note is None:
            continue  # Newer than this list, or a crash note: not for us.
        if note in _STRINGS:
            texts[note] = desc.split(b"\0", 1)[0].decode("ascii", "replace")
        elif len(desc) in (1, 2, 4, 8):
            numbers[note] = int.from_bytes(desc, "little")
        elif note is not Note.L1_MFN_VALID:  # That one is a pair of masks.
            numbers[note] = 0
    return XenNotes(numbers=numbers, texts=texts)


_SECTION_TEXTS = {
    "LOADER": Note.LOADER,
    "GUEST_OS": Note.GUEST_OS,
    "GUEST_VER": Note.GUEST_VERSION,
    "XEN_VER": Note.XEN_VERSION,
    "PAE": Note.PAE_MODE,
    "FEATURES": Note.FEATURES,
    "BSD_SYMTAB": Note.BSD_SYMTAB,
}
_SECTION_NUMBERS = {
    "VIRT_BASE": Note.VIRT_BASE,
    "VIRT_ENTRY": Note.ENTRY,
    "ELF_PADDR_OFFSET": Note.PADDR_OFFSET,
    "HYPERCALL_PAGE": Note.HYPERCALL_PAGE,
}


def parse_guest_section(data: bytes) -> XenNotes:
    """Read `__xen_guest`: KEY=value[,KEY=value...], NUL at the end.

    HYPERCALL_PAGE there is a page number counted from VIRT_BASE; it is
    returned as the virtual address that the note of that name would hold.
    """
    numbers: dict[Note, int] = {}
    texts: dict[Note, str] = {}
    text = data.split(b"\0", 1)[0].decode("ascii", "replace")
    for item in text.split(","):
        key, _, value = item.strip().partition("=")
        if key in _SECTION_TEXTS:
            texts[_SECTION_TEXTS[key]] = value or "yes"
        elif key in _SECTION_NUMBERS:
            numbers[_SECTION_NUMBERS[key]] = _section_number(key, value)
    if Note.HYPERCALL_PAGE in numbers:
        base = numbers.get(Note.VIRT_BASE, 0)
        page = numbers[Note.HYPERCALL_PAGE]
        numbers[Note.HYPERCALL_PAGE] = (base + (page << 12)) % (1 << 64)
    return XenNotes(numbers=numbers, texts=texts, is_section=True)


def _section_number(key: str, value: str) -> int:
    try:
        number = int(value, 0)
    except ValueError as error:
        raise ImageError(
            f"corrupt __xen_guest section: {key}={value} is no number"
        ) from error
    return number % (1 << 64)
