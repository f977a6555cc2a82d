/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The width of the guest: its words, addresses, page tables and code. Here 64
 * bits; a build for 32-bit guests has other values under these names. Files
 * that are for 64 bits alone are listed in emu/README.md, the others take
 * widths from here. What is not here: the layout of Xen's structures, and
 * arguments of 64 bits, for which a 32-bit guest takes two words
 * (set_timer_op, update_va_mapping, update_descriptor).
 */
#ifndef EMU_WIDTH_H
#define EMU_WIDTH_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/layout.h"
#include "emu/x86.h"

/* --- words ---------------------------------------------------------------- */

/* An unsigned long of the guest's: a hypercall's argument, an address, a page
 * number in a list, a word of event channels' bits. */
typedef uint64_t guest_word;
#define GUEST_WORD_BITS 64

/* --- addresses ------------------------------------------------------------ */

/* Where a slot of the root begins. */
#define SLOT_SHIFT 39
#define SLOT_VIRT(slot) (0xffffUL << 48 | (uint64_t)(slot) << SLOT_SHIFT)

/* Can the CPU hold this address at all? */
static inline bool canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

/* In Xen's part of the address space, which is emu's here. */
static inline bool in_hole(uint64_t va)
{
    unsigned int slot = (va >> SLOT_SHIFT) & 511;

    return slot >= XEN_FIRST_SLOT && slot < XEN_END_SLOT;
}

/* Xen's hole is emu's: a guest that points there is refused, as on Xen. */
static inline bool reaches_hole(uint64_t va, uint64_t bytes)
{
    uint64_t first = SLOT_VIRT(XEN_FIRST_SLOT), end = SLOT_VIRT(XEN_END_SLOT);

    return va + bytes < va || (va < end && va + bytes > first);
}

/* --- page tables (SDM vol 3, 4.5) ----------------------------------------- */

/* Level 1 has the pages, PT_LEVELS is the root. */
#define PT_LEVELS 4
#define PT_INDEX_BITS 9
#define PT_ENTRIES (1U << PT_INDEX_BITS)

typedef uint64_t pte_t;
#define PTE_NX 0x8000000000000000UL
#define PTE_MFN(e) (((e) >> PAGE_SHIFT) & 0xffffffffffUL)

/* Which entry of a table of that level maps va. */
static inline unsigned int pt_index(uint64_t va, int level)
{
    return (unsigned int)(va >> (PAGE_SHIFT + PT_INDEX_BITS * (level - 1))) &
           (PT_ENTRIES - 1);
}

/* How many pages an entry of that level maps. */
static inline uint64_t pt_pages(int level)
{
    return 1UL << PT_INDEX_BITS * (level - 1);
}

/* Does a present entry, above level 1, map a large page? Not in a root. */
static inline bool pt_is_large(pte_t e, int level)
{
    return e & PTE_PS && level < PT_LEVELS;
}

/* Emu's entries of a root: no other table has entries that are not the
 * guest's. */
static inline bool emu_slot(int level, unsigned int i)
{
    return __builtin_expect(level == PT_LEVELS, 0) && i >= XEN_FIRST_SLOT &&
           i < XEN_END_SLOT;
}

/* --- code (SDM vol 2, 2.2.1) ---------------------------------------------- */

/* A REX prefix, and what it adds to an instruction: a fourth bit of the three
 * numbers of registers, and operands of 64 bits. */
static inline bool is_rex(uint8_t byte, unsigned int code_bits)
{
    return code_bits == 64 && (byte & 0xf0) == 0x40;
}

static inline unsigned int rex_base(uint8_t rex)
{
    return (rex & 1U) << 3;
}

static inline unsigned int rex_index(uint8_t rex)
{
    return (rex & 2U) << 2;
}

static inline unsigned int rex_reg(uint8_t rex)
{
    return (rex & 4U) << 1;
}

static inline bool rex_is_wide(uint8_t rex)
{
    return rex & 8;
}

#endif
