/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries of page tables, and which of the guest's pages are tables. */
#ifndef EMU_PAGE_TABLE_H
#define EMU_PAGE_TABLE_H

#include "emu/machine.h"

/* --- entries ------------------------------------------------------------------ */

#define PTE_P 0x1UL
#define PTE_RW 0x2UL
#define PTE_US 0x4UL
#define PTE_A 0x20UL
#define PTE_D 0x40UL
#define PTE_PS 0x80UL
#define PTE_NX 0x8000000000000000UL
#define PTE_MFN(e) (((e) >> PAGE_SHIFT) & 0xffffffffffUL)

/* Emu's entries of a root: only an L4 has entries that are not the guest's. */
static inline bool emu_slot(int level, unsigned int i)
{
    return unlikely(level == 4) && i >= XEN_FIRST_SLOT && i < XEN_END_SLOT;
}

/* Unless it is another one by now: the processor, the guest and other vCPUs
 * write entries as well. Then what needs it faults again. */
static inline void replace_entry(uint64_t *e, uint64_t old, uint64_t value)
{
    __atomic_compare_exchange_n(e, &old, value, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
}

/* As MMU_PT_UPDATE_PRESERVE_AD wants it, if asked; what stood there before. */
static inline uint64_t exchange_entry(uint64_t *e, uint64_t value,
                                      bool preserve_ad)
{
    uint64_t old = READ_ONCE(*e);

    if (value & PTE_P)
        value |= PTE_US;
    if (!preserve_ad)
        return __atomic_exchange_n(e, value, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(e, &old,
                                        value | (old & (PTE_A | PTE_D)), false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        barrier();
    return old;
}

/* --- walks, faults, flushes (mm.c) --------------------------------------------- */

/* Entry that maps va at level (1: page) under root, or NULL. */
uint64_t *walk(uint64_t root, uint64_t va, int level);
/* root: the one that was loaded, which for emu's own faults is emu_cr3. */
bool fix_page_fault(struct vcpu *v, uint64_t root, uint64_t va,
                    uint64_t error_code);
void install_emu_slots(uint64_t root, bool user);
void flush_local(struct vcpu *v);
void flush_local_va(struct vcpu *v, uint64_t va);
void mm_prepare_exit(struct vcpu *v);

/* --- which pages are tables (page_type.c) -------------------------------------------- */

/* The guest's pages alone (mfn_guest) for pin() and unpin(). */
int pin(uint64_t mfn, int level);
int unpin(uint64_t mfn);
/* The level that a machine page is a table of, 0: of none; mfn_valid(mfn). */
static inline int table_level(uint64_t mfn)
{
    return (int)(READ_ONCE(page_types[mfn]) & EMU_TYPE_LEVEL);
}
int write_link(uint64_t *e, int level, uint64_t value, bool preserve_ad);
/* Take a machine page of the guest's as root: 0 or -EINVAL. */
int set_kernel_root(struct vcpu *v, uint64_t mfn);
int set_user_root(struct vcpu *v, uint64_t mfn);
void drop_root(uint64_t cr3);

#endif
