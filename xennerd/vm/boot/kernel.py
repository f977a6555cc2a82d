# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel file on its way to become a guest: from bytes to a checked plan.

Nothing here touches a guest's memory; start-of-day placement is in
startofday.py.
"""

import mmap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xenner.errors import ConfigError, why_unread
from xennerd.vm.boot.bzimage import MAX_KERNEL_BYTES, ImageError, unwrap_kernel
from xennerd.vm.boot.elf import EM_X86_64, Elf, Segment, parse_elf
from xennerd.vm.boot.kernelcache import KernelCache
from xennerd.vm.boot.notes import Note, XenNotes, read_notes
from xennerd.vm.memory.layout import PAGE_BYTES, max_memory_bytes, xen_owns

_VIRT_END = 1 << 64

OFFERED_FEATURES = frozenset(
    {
        "writable_page_tables",
        "writable_descriptor_tables",
        "pae_pgdir_above_4gb",
    }
)
"""What a PV guest may require; libelf's other names are for HVM and dom0."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A Xen PV kernel, checked and ready to be placed.

    Segment `paddr`s count bytes from the guest's first page (PADDR_OFFSET is
    subtracted) and their `vaddr` is virt_base + paddr, as Xen maps them,
    whatever p_vaddr says (Linux's per-CPU segment has 0 there).
    """

    segments: tuple[Segment, ...]
    entry: int
    virt_base: int
    paddr_offset: int
    init_p2m: int | None
    hypercall_page: int | None
    mod_start_pfn: bool
    features: str
    guest_os: str
    guest_version: str
    pae_mode: str
    # Of the image with its bss, half-open.
    virt_start: int
    virt_end: int


def load_kernel(path: Path, *, cache: KernelCache | None = None) -> Kernel:
    """Read a bzImage, compressed or plain ELF kernel for 64-bit Xen PV.

    With a cache, unpacking is done once for each kernel. Raises ConfigError
    (one line that names the file) when it is missing, damaged or no such
    kernel.
    """
    try:
        with path.open("rb") as file:
            image = file.read(MAX_KERNEL_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the kernel: {why_unread(error)}", file=path
        ) from error
    if len(image) > MAX_KERNEL_BYTES:
        raise ConfigError("too big to be a kernel", file=path)
    try:
        return _parse_cached(image, cache) if cache else parse_kernel(image)
    except ImageError as error:
        raise ConfigError(str(error), file=path) from error


def _parse_cached(image: bytes, cache: KernelCache) -> Kernel:
    kept = cache.find(image)
    if kept is not None:
        # Damaged on the disk: it will be replaced.
        with suppress(ImageError):
            return parse_kernel(kept)
    elf = unwrap_kernel(image)
    kernel = parse_kernel(elf)
    if len(elf) != len(image):
        cache.store(image, elf)
    return kernel


def parse_kernel(image: bytes | mmap.mmap) -> Kernel:
    """load_kernel on contents; raises ImageError."""
    elf = parse_elf(unwrap_kernel(image))
    notes = read_notes(elf)
    if notes is None:
        raise ImageError(
            "not a Xen PV kernel: an ELF file without Xen notes "
            "(Linux needs CONFIG_XEN_PV)"
        )
    _check_kind(elf, notes)
    return _place(elf, notes)


def _check_kind(elf: Elf, notes: XenNotes) -> None:
    """Refuse what is a kernel for Xen, but not one that can run here."""
    # Linux built for PVH alone may have all of PV's notes but ENTRY.
    has_pv_entry = notes.number(Note.ENTRY) is not None
    if notes.number(Note.PHYS32_ENTRY) is not None and not has_pv_entry:
        raise ImageError(
            "a PVH-only kernel, not a PV one: built without PV support "
            "(Linux needs CONFIG_XEN_PV)"
        )
    if not elf.is_64bit or elf.machine != EM_X86_64:
        raise ImageError(
            "a 32-bit PV kernel: this version runs 64-bit guests only"
        )
    loader, guest_os = notes.text(Note.LOADER), notes.text(Note.GUEST_OS)
    if not loader.startswith("generic") and not guest_os.startswith("linux"):
        raise ImageError(
            "not for the generic loader: its notes say "
            f"LOADER={loader!r}, GUEST_OS={guest_os!r}"
        )
    version = notes.text(Note.XEN_VERSION)
    if not version.startswith("xen-3.0"):
        raise ImageError(f"built for another Xen interface: {version!r}")
    missing = notes.required_features - OFFERED_FEATURES
    if missing:
        raise ImageError(
            "requires a feature that PV guests are not offered: "
            + ", ".join(sorted(missing))
        )


def _place(elf: Elf, notes: XenNotes) -> Kernel:
    """Apply Xen's rules for where things are when notes are left out."""
    virt_base = notes.number(Note.VIRT_BASE)
    offset = notes.number(Note.PADDR_OFFSET)
    if offset is not None and virt_base is None:
        raise ImageError("corrupt notes: PADDR_OFFSET without VIRT_BASE")
    virt_base = virt_base or 0
    if offset is None:
        # The old section implied physical addresses that are virtual ones.
        offset = virt_base if notes.is_section else 0
    segments = _segments(elf, virt_base, offset)
    entry = notes.number(Note.ENTRY)
    kernel = Kernel(
        segments=segments,
        entry=elf.entry if entry is None else entry,
        virt_base=virt_base,
        paddr_offset=offset,
        init_p2m=notes.number(Note.INIT_P2M),
        hypercall_page=notes.number(Note.HYPERCALL_PAGE),
        mod_start_pfn=bool(notes.number(Note.MOD_START_PFN)),
        features=notes.text(Note.FEATURES),
        guest_os=notes.text(Note.GUEST_OS),
        guest_version=notes.text(Note.GUEST_VERSION),
        pae_mode=notes.text(Note.PAE_MODE),
        virt_start=min(s.vaddr for s in segments),
        virt_end=max(s.vaddr + s.memsz_bytes for s in segments),
    )
    _check_addresses(kernel)
    if not kernel.virt_start <= kernel.entry < kernel.virt_end:
        reason = "corrupt notes"
        if entry is None:
            reason = "no Xen PV kernel (Linux needs CONFIG_XEN_PV)"
        raise ImageError(
            f"{reason}: the entry point {kernel.entry:#x} is outside the "
            f"image {kernel.virt_start:#x}-{kernel.virt_end:#x}"
        )
    return kernel


def _segments(elf: Elf, virt_base: int, offset: int) -> tuple[Segment, ...]:
    segments = []
    for segment in elf.segments:
        paddr = segment.paddr - offset
        if segment.memsz_bytes == 0:
            continue
        if paddr < 0 or paddr + segment.memsz_bytes > _VIRT_END - virt_base:
            raise ImageError(
                "corrupt ELF file: a segment at physical address "
                f"{segment.paddr:#x} does not fit VIRT_BASE {virt_base:#x}, "
                f"PADDR_OFFSET {offset:#x}"
            )
        segments.append(
            Segment(
                paddr=paddr,
                vaddr=virt_base + paddr,
                data=segment.data,
                memsz_bytes=segment.memsz_bytes,
            )
        )
    if not segments:
        raise ImageError("corrupt ELF file: it has nothing to load")
    return tuple(segments)


def _check_addresses(kernel: Kernel) -> None:
    start, end = kernel.virt_start, kernel.virt_end
    if kernel.virt_base % PAGE_BYTES:
        raise ImageError(
            f"corrupt notes: VIRT_BASE {kernel.virt_base:#x} is odd"
        )
    if end - kernel.virt_base > max_memory_bytes():
        raise ImageError(
            f"needs {end - kernel.virt_base >> 30} GiB of memory for itself: "
            "more than any guest can have"
        )
    if not _usable(kernel.virt_base, end):
        raise ImageError(
            f"cannot be mapped: {kernel.virt_base:#x}-{end:#x} is not in the "
            "guest's part of the address space"
        )
    page = kernel.hypercall_page
    if page is not None and (
        page % PAGE_BYTES or not start <= page <= end - PAGE_BYTES
    ):
        raise ImageError(
            f"corrupt notes: the hypercall page {page:#x} is no page of "
            f"the image {start:#x}-{end:#x}"
        )
    p2m = kernel.init_p2m
    if p2m is not None and (p2m % PAGE_BYTES or not _usable(p2m, p2m + 1)):
        raise ImageError(f"corrupt notes: INIT_P2M {p2m:#x} cannot be mapped")


def _usable(start: int, end: int) -> bool:
    """Is [start, end) canonical, in one half and not in Xen's hole?"""
    low = end <= 1 << 47
    high = start >= _VIRT_END - (1 << 47) and end <= _VIRT_END
    return (low or high) and not xen_owns(start) and not xen_owns(end - 1)
