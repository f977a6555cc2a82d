/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/guests/lib/flavour.h"

OUTPUT_FORMAT("elf64-x86-64")
ENTRY(_start)

PHDRS
{
    load PT_LOAD FLAGS(7);
    note PT_NOTE FLAGS(4);
}

/* p_paddr counts from VIRT_BASE, as with no PADDR_OFFSET note. */
SECTIONS
{
    . = GUEST_VIRT_BASE + GUEST_TEXT_OFFSET;
    image_start = .;
    .text : AT(ADDR(.text) - (GUEST_VIRT_BASE)) {
        *(.text.head)
        . = ALIGN(4096);
        *(.text.hypercall_page)
        *(.text .text.*)
        . = ALIGN(4096);
        user_page_text = .;
        *(.user.text)
        . = ALIGN(4096);
    } :load
    ASSERT(. - user_page_text <= 4096, "user text is one page")
    .note.Xen : AT(ADDR(.note.Xen) - (GUEST_VIRT_BASE)) {
        KEEP(*(.note.Xen))
    } :load :note
    .rodata : AT(ADDR(.rodata) - (GUEST_VIRT_BASE)) {
        *(.rodata .rodata.*)
        . = ALIGN(8);
        probes_start = .;
        KEEP(*(.probes))
        probes_end = .;
    } :load
    .data : AT(ADDR(.data) - (GUEST_VIRT_BASE)) {
        . = ALIGN(4096);
        *(.data .data.* .got .got.plt)
    } :load
    .bss : AT(ADDR(.bss) - (GUEST_VIRT_BASE)) {
        . = ALIGN(4096);
        *(.bss .bss.* COMMON)
        . = ALIGN(4096);
    } :load
    image_end = .;
    /DISCARD/ : { *(.comment) *(.eh_frame) *(.note.GNU-stack)
                  *(.note.gnu.property) }
}
