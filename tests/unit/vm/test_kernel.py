# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel says about itself is understood, and what it must not is not.

The rules are libelf's: xen/common/libelf/libelf-dominfo.c.
"""

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenner.errors import ConfigError
from xennerd.vm.boot.bzimage import ImageError
from xennerd.vm.boot.elf import parse_elf
from xennerd.vm.boot.kernel import load_kernel, parse_kernel
from xennerd.vm.boot.notes import Note, parse_guest_section, read_notes

BASE = 0xFFFFFFFF80000000


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def test_notes(kernels: Any) -> None:
    kernel = parse_kernel(
        kernels.elf(
            (Note.HYPERCALL_PAGE, u64(BASE + 0x101000)),
            (Note.INIT_P2M, u64(0x8000000000)),
            (Note.MOD_START_PFN, struct.pack("<I", 1)),
            (Note.FEATURES, b"!writable_page_tables|pae_pgdir_above_4gb\0"),
            (Note.PAE_MODE, b"yes\0"),
            (Note.L1_MFN_VALID, u64(1) + u64(1)),
            (4711, b"later than us"),
        )
    )
    assert kernel.virt_base == BASE
    assert kernel.entry == BASE + 0x100040
    assert kernel.hypercall_page == BASE + 0x101000
    assert kernel.init_p2m == 0x8000000000
    assert kernel.mod_start_pfn
    assert kernel.pae_mode == "yes"
    assert kernel.guest_os == "linux"
    assert (kernel.virt_start, kernel.virt_end) == (
        BASE + 0x100000,
        BASE + 0x103000,
    )


def test_notes_in_sections(kernels: Any) -> None:
    notes = kernels.spec(notes=kernels.pv_notes)
    packed = parse_elf(notes.to_bytes()).note_segments[0]
    image = kernels.spec(sections=[(".note", 7, bytes(packed))]).to_bytes()
    assert parse_kernel(image).entry == BASE + 0x100040


def test_a_text_that_ends_behind_its_segment(kernels: Any) -> None:
    """GRUB's i386 kernel has such a note: Xen reads it as far as it is."""
    text = (Note.FEATURES, b"!writable_page_tables|pae_pgdir_above_4gb\0")
    packed = parse_elf(kernels.elf(text)).note_segments[0]
    cut = kernels.spec(
        sections=[(".note", 7, bytes(packed)[:-20])], notes=()
    ).to_bytes()
    notes = read_notes(parse_elf(cut))
    assert notes is not None
    assert notes.text(Note.FEATURES).startswith("!writable_page_tables")
    assert notes.number(Note.ENTRY) == BASE + 0x100040


def test_parts_that_are_the_same_bytes_are_not_kept_once_each(
    kernels: Any,
) -> None:
    """Else a file of a few MiB takes as many GiB."""
    many = kernels.spec(
        sections=[("n" * 5000, 1, b"x"), ("m" * 5000, 1, b"x")],
        notes=[(Note.GUEST_OS, b"x" * 9000)],
    ).to_bytes()
    elf = parse_elf(many)
    assert max(len(section.name) for section in elf.sections) == 64
    found = read_notes(elf)
    assert found is not None
    assert len(found.text(Note.GUEST_OS)) == 4096


def test_half_a_number_is_refused(kernels: Any) -> None:
    number = (Note.INIT_P2M, u64(0x8000000000))
    packed = parse_elf(kernels.elf(number)).note_segments[0]
    cut = kernels.spec(
        sections=[(".note", 7, bytes(packed)[:-4])], notes=()
    ).to_bytes()
    with pytest.raises(ImageError, match="overrun"):
        read_notes(parse_elf(cut))


def test_guest_section(kernels: Any) -> None:
    text = (
        b"GUEST_OS=linux,GUEST_VER=2.6,XEN_VER=xen-3.0,"
        b"VIRT_BASE=0xffffffff80000000,ELF_PADDR_OFFSET=0x0,"
        b"VIRT_ENTRY=0xffffffff80100010,HYPERCALL_PAGE=0x101,PAE=yes,"
        b"FEATURES=writable_page_tables,LOADER=generic,BSD_SYMTAB\0"
    )
    image = kernels.spec(sections=[("__xen_guest", 1, text)]).to_bytes()
    kernel = parse_kernel(image)
    assert kernel.virt_base == BASE
    assert kernel.entry == BASE + 0x100010
    assert kernel.hypercall_page == BASE + 0x101000
    assert kernel.virt_start == BASE + 0x100000
    assert not kernel.mod_start_pfn
    assert kernel.init_p2m is None


def test_guest_section_has_virtual_paddrs(kernels: Any) -> None:
    """Without ELF_PADDR_OFFSET the old section's p_paddr are virtual."""
    text = b"LOADER=generic,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000"
    at = BASE + 0x100000
    image = kernels.spec(
        segments=[(at, at, b"\x90", 4096)],
        sections=[("__xen_guest", 1, text)],
    ).to_bytes()
    kernel = parse_kernel(image)
    assert kernel.segments[0].paddr == 0x100000
    assert kernel.virt_start == at


def test_notes_win_over_section(kernels: Any) -> None:
    section = ("__xen_guest", 1, b"VIRT_BASE=0x1000")
    assert parse_kernel(kernels.elf(sections=[section])).virt_base == BASE


def test_paddr_offset(kernels: Any) -> None:
    kernel = parse_kernel(
        kernels.elf(
            (Note.PADDR_OFFSET, u64(BASE)),
            segments=[(BASE + 0x100000, 0, b"\x90", 0x1000)],
        )
    )
    assert kernel.segments[0].paddr == 0x100000
    assert kernel.virt_start == BASE + 0x100000


def test_defaults(kernels: Any) -> None:
    """Without VIRT_BASE it is 0, without ENTRY the ELF header's holds."""
    kernel = parse_kernel(
        kernels.elf(
            (Note.LOADER, b"generic\0"),
            (Note.XEN_VERSION, b"xen-3.0\0"),
            pv=False,
            segments=[(0, 0, b"\x90", 0x2000)],
            entry=0x123,
        )
    )
    assert kernel.virt_base == 0
    assert kernel.entry == 0x123
    assert kernel.paddr_offset == 0


def test_segment_address_is_the_physical_one(kernels: Any) -> None:
    """Linux's per-CPU segment has p_vaddr 0; Xen goes by p_paddr."""
    kernel = parse_kernel(
        kernels.elf(
            segments=[
                (0x100000, BASE + 0x100000, b"\x90", 0x1000),
                (0x101000, 0, b"percpu", 0x1000),
                (0x102000, 0, b"", 0),
            ]
        )
    )
    assert [s.vaddr for s in kernel.segments] == [
        BASE + 0x100000,
        BASE + 0x101000,
    ]


REFUSALS: dict[str, dict[str, Any]] = {
    "PVH-only": {
        "pv": False,
        "notes": [
            (Note.GUEST_OS, b"linux\0"),
            (Note.VIRT_BASE, u64(BASE)),
            (Note.HYPERCALL_PAGE, u64(BASE + 0x101000)),
            (Note.PHYS32_ENTRY, struct.pack("<I", 0x1000)),
        ],
    },
    "no Xen PV kernel": {
        "pv": False,
        "notes": [
            (Note.GUEST_OS, b"linux\0"),
            (Note.XEN_VERSION, b"xen-3.0\0"),
            (Note.VIRT_BASE, u64(BASE)),
        ],
        "entry": 0x100000,
    },
    "without Xen notes": {"pv": False},
    "32-bit PV kernel": {
        "bits": 32,
        "machine": 3,
        "segments": [(0x100000, 0, b"x", 4096)],
        "entry": 0x100000,
    },
    "another machine": {"machine": 183},
    "not for the generic loader": {
        "notes": [(Note.LOADER, b"x\0"), (Note.GUEST_OS, b"plan9\0")]
    },
    "another Xen interface": {"notes": [(Note.XEN_VERSION, b"xen-2.0\0")]},
    "requires a feature .* auto_translated_physmap": {
        "notes": [(Note.FEATURES, b"dom0|!auto_translated_physmap\0")]
    },
    "PADDR_OFFSET without VIRT_BASE": {
        "pv": False,
        "notes": [
            (Note.LOADER, b"generic\0"),
            (Note.XEN_VERSION, b"xen-3.0\0"),
            (Note.PADDR_OFFSET, u64(0)),
            (Note.ENTRY, u64(0)),
        ],
    },
    "does not fit VIRT_BASE": {"notes": [(Note.PADDR_OFFSET, u64(1 << 40))]},
    "entry point .* is outside": {"notes": [(Note.ENTRY, u64(BASE))]},
    "hypercall page .* is no page": {
        "notes": [(Note.HYPERCALL_PAGE, u64(BASE + 0x100800))]
    },
    "INIT_P2M .* cannot be mapped": {
        "notes": [(Note.INIT_P2M, u64(0xFFFF800000000000))]
    },
    "not in the guest's part": {
        "notes": [
            (Note.VIRT_BASE, u64(0xFFFF807FFFF00000)),
            (Note.ENTRY, u64(0xFFFF808000000000)),
        ]
    },
    "more than any guest can have": {
        "segments": [(0, 0, b"x", 1 << 46)],
        "notes": [(Note.VIRT_BASE, u64(0)), (Note.ENTRY, u64(0))],
    },
    "nothing to load": {"segments": []},
    "overflows its memory": {"segments": [(0x100000, 0, b"xxxx", 2)]},
}


@pytest.mark.parametrize("match", REFUSALS)
def test_refused(kernels: Any, tmp_path: Path, match: str) -> None:
    case = dict(REFUSALS[match])
    notes: Any = case.pop("notes", ())
    path = tmp_path / "vmlinuz"
    path.write_bytes(kernels.elf(*notes, **case))
    with pytest.raises(ConfigError, match=match) as refused:
        load_kernel(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_kernel(tmp_path / "nothing")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_kernel(tmp_path)


def test_bad_number_in_section() -> None:
    with pytest.raises(ImageError, match="VIRT_BASE=zero is no number"):
        parse_guest_section(b"VIRT_BASE=zero\0")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_elf(kernels: Any, data: st.DataObject) -> None:
    """Whatever stands in the headers: a kernel or one clear error."""
    section = (".note", 7, b"\4\0\0\0\1\0\0\0\1\0\0\0Xen\0\0\0\0\0")
    image = bytearray(kernels.elf(sections=[section, ("__xen_guest", 1, b"")]))
    for _ in range(data.draw(st.integers(1, 4))):
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        spots = st.integers(0, 250) | st.integers(0, len(image) - size)
        at = data.draw(spots)
        value = data.draw(st.binary(min_size=size, max_size=size))
        image[at : at + size] = value
    cut = data.draw(st.integers(0, len(image)))
    for candidate in (bytes(image), bytes(image[:cut])):
        try:
            kernel = parse_kernel(candidate)
        except ImageError:
            continue
        assert kernel.virt_start <= kernel.entry < kernel.virt_end


def test_debian_kernel(debian_kernel: Path) -> None:
    kernel = load_kernel(debian_kernel)
    assert kernel.virt_base == BASE
    assert kernel.init_p2m == 0x8000000000
    assert kernel.mod_start_pfn
    assert kernel.guest_os == "linux"
    assert len(kernel.segments) >= 3
