/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries of page tables, and which of the guest's pages are tables. */
#ifndef EMU_PAGE_TABLE_H
#define EMU_PAGE_TABLE_H

#include "emu/machine.h"
#include "emu/width.h"

/* --- entries -------------------------------------------------------------- */

/* Unless it is another one by now: the processor, the guest and other vCPUs
 * write entries as well. Then what needs it faults again. */
static inline void replace_entry(pte_t *e, pte_t old, pte_t value)
{
    __atomic_compare_exchange_n(e, &old, value, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
}

/* As MMU_PT_UPDATE_PRESERVE_AD wants it, if asked; what stood there before. */
static inline pte_t exchange_entry(pte_t *e, pte_t value, bool preserve_ad)
{
    pte_t old = READ_ONCE(*e);

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

/* --- walks, faults, flushes (mm.c) ---------------------------------------- */

/* Entry that maps va at level (1: page) under root, or NULL. */
pte_t *walk(uint64_t root, uint64_t va, int level);
/* root: the one that was loaded, which for emu's own faults is emu_cr3. */
bool fix_page_fault(struct vcpu *v, uint64_t root, uint64_t va,
                    uint64_t error_code);
void install_emu_slots(uint64_t root, bool user);
void flush_local(struct vcpu *v);
void flush_local_va(struct vcpu *v, uint64_t va);
void mm_prepare_exit(struct vcpu *v);

/* --- which pages are tables (page_type.c) --------------------------------- */

/* The guest's pages alone (mfn_guest) for pin() and unpin(). */
int pin(uint64_t mfn, int level);
int unpin(uint64_t mfn);
/* The level that a machine page is a table of, 0: of none; mfn_valid(mfn). */
static inline int table_level(uint64_t mfn)
{
    return (int)(READ_ONCE(page_types[mfn]) & EMU_TYPE_LEVEL);
}
int write_link(pte_t *e, int level, pte_t value, bool preserve_ad);
/* Take a machine page of the guest's as root: 0 or -EINVAL. */
int set_kernel_root(struct vcpu *v, uint64_t mfn);
int set_user_root(struct vcpu *v, uint64_t mfn);
void drop_root(uint64_t cr3);

#endif
