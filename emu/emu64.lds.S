/* SPDX-License-Identifier: GPL-2.0-or-later */
/* emu64: linked where the direct map shows EMU_IMAGE_GPA. */
#include "abi/layout.h"

OUTPUT_FORMAT("elf64-x86-64")
ENTRY(start)

PHDRS
{
    text PT_LOAD FLAGS(5);
    data PT_LOAD FLAGS(6);
}

SECTIONS
{
    . = DIRECTMAP_VIRT + EMU_IMAGE_GPA;
    image_start = .;
    .text : { *(.text.head) *(.text .text.* .fixup) } :text
    .rodata : ALIGN(16) { *(.rodata .rodata.*) } :text
    /* Constant tables of addresses. */
    .data.rel.ro : ALIGN(16) { *(.data.rel.ro .data.rel.ro.*) } :text
    .extable : ALIGN(8) {
        extable_start = .;
        KEEP(*(.extable))
        extable_end = .;
    } :text
    . = ALIGN(4096);
    .data : { *(.data .data.*) } :data
    .bss : { *(.bss .bss.*) *(COMMON) } :data
    image_end = .;
    /DISCARD/ : { *(.note*) *(.comment) *(.eh_frame*) *(.gnu*) }
}

/*
 * The low halves of addresses that the entry code compares with a saved RIP whose
 * high half it has already found to be emu's.
 */
ring0_call_lo = ring0_call_insn & 0xffffffff;
ring0_exit_lo = ring0_exit_insn & 0xffffffff;
exit_critical_lo = exit_critical & 0xffffffff;
exit_critical_end_lo = exit_critical_end & 0xffffffff;
exit_again_lo = exit_again & 0xffffffff;
emu_high = image_start >> 32;
/* The three highest bytes, and the lowest of FLAT_RING3_CS64 behind them. */
rip_end_cs64 = (emu_high >> 8) | 0x33 << 24;

ASSERT(SIZEOF(.data) == 0, "struct emu_machine is all, and begins as zeros")
ASSERT((image_start >> 32) == (image_end >> 32), "image crosses 4 GiB")
ASSERT(image_end - image_start <= EMU_IMAGE_BYTES, "image does not fit")
