/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page tables of a guest that runs with its kernel at ring 3.
 *
 * Nothing is verified: a guest that maps what it should not harms the VM it
 * lives in. What emu does see to: every present entry of every level carries
 * the user bit (both halves of the guest run at ring 3), emu's own L4 slots
 * are in every root, and an L1 table may be written by the guest kernel
 * although it asked for it to be mapped read-only, as Xen's writable page
 * tables allow. Which pages are tables stands in page_type.c.
 */

#include "emu/emu.h"
#include "emu/privileged.h"

static pte_t *table(pte_t entry)
{
    uint64_t mfn = PTE_MFN(entry);

    return mfn_valid(mfn) ? machine(mfn << PAGE_SHIFT) : NULL;
}

pte_t *walk(uint64_t root, uint64_t va, int level)
{
    pte_t *t = table(root);

    for (int l = PT_LEVELS; t; l--) {
        pte_t *e = &t[pt_index(va, l)];

        if (l == level)
            return e;
        if (!(*e & PTE_P) || pt_is_large(*e, l))
            return NULL;
        t = table(*e);
    }
    return NULL;
}

/* --- the user bit --------------------------------------------------------- */

static bool fix_table(pte_t *t, int level)
{
    bool changed = false;

    for (unsigned int i = 0; i < PT_ENTRIES; i++) {
        pte_t e = READ_ONCE(t[i]);

        if ((e & (PTE_P | PTE_US)) == PTE_P && !emu_slot(level, i)) {
            replace_entry(&t[i], e, e | PTE_US);
            changed = true;
        }
    }
    return changed;
}

/* Do entries with these bits in common (no-execute: in any) allow it? */
static bool allowed(pte_t common, pte_t any, uint64_t error_code)
{
    return common & PTE_US && (common & PTE_RW || !(error_code & PF_WRITE)) &&
           !(any & PTE_NX && error_code & PF_FETCH);
}

/*
 * A present page was refused under this root. True if a table on the way lacked
 * user bits (all of it is fixed at once) or if the page is an L1 table that the
 * guest's kernel maps read-only: then the access can be tried again. Likewise
 * when another vCPU has just done that and nothing is left to do.
 *
 * Upper tables stay read-only, as on Xen (ptwr_do_page_fault() in its
 * pv/ro-page-fault.c): page_type.c counts what they name.
 */
bool fix_page_fault(struct vcpu *v, uint64_t root, uint64_t va,
                    uint64_t error_code)
{
    pte_t *t = table(root), *e = NULL, entry = 0, common = ~(pte_t)0, any = 0;
    bool changed = false;
    int level;

    if (!(error_code & PF_PRESENT) || error_code & PF_RESERVED)
        return false;
    for (level = PT_LEVELS; t && level > 0; level--) {
        e = &t[pt_index(va, level)];
        entry = READ_ONCE(*e);
        if (!(entry & PTE_P) || emu_slot(level, pt_index(va, level)))
            return false;
        if (!(entry & PTE_US))
            changed |= fix_table(t, level);
        common &= entry;
        any |= entry;
        if (level == 1 || pt_is_large(entry, level))
            break;
        t = table(entry);
    }
    if (!t)
        return false;
    if (!changed && v->pub.in_kernel && error_code & PF_WRITE && level == 1 &&
        !(entry & PTE_RW) && mfn_guest(PTE_MFN(entry)) &&
        table_level(PTE_MFN(entry)) == 1) {
        replace_entry(e, entry, entry | PTE_RW);
        changed = true;
    }
    if (!changed && shared->nr_vcpus > 1 && allowed(common, any, error_code)) {
        flush_local_va(v, va);
        changed = true;
    }
    if (changed)
        v->pub.counters.fixup++;
    return changed;
}

/*
 * emu's slots in a root. With a slow ring 0 emu's C runs at ring 3 under the
 * guest kernel's root, where its slots carry the user bit; user space must
 * never see them.
 */
void install_emu_slots(uint64_t root, bool user)
{
    const pte_t *from = machine(EMU_TABLES_GPA + EMU_TABLE_L4 * PAGE_SIZE);
    pte_t *to = table(root);
    bool hidden = user || !slow_ring0();

    if (!to)
        return;
    for (unsigned int i = M2P_ALIAS_SLOT; i <= WINDOWS_SLOT; i++) {
        pte_t e = from[i] | PTE_US;

        /* The M2P is the guest kernel's to read on every kind. */
        if (hidden && (user || (i != M2P_ALIAS_SLOT && i != M2P_SLOT)))
            e &= ~PTE_US;
        if ((to[i] ^ e) & ~PTE_A)
            to[i] = e;
    }
}

/* --- translations that must go -------------------------------------------- */

void flush_local(struct vcpu *v)
{
    v->pub.counters.tlb_flush++;
    v->flush = FLUSH_ALL;
}

void flush_local_va(struct vcpu *v, uint64_t va)
{
    if (v->flush == FLUSH_NONE) {
        v->flush = FLUSH_ONE;
        v->flush_va = va;
    } else if (v->flush == FLUSH_ONE && v->flush_va != va) {
        v->flush = FLUSH_ALL;
    }
}

/* Leave the root and the translations as the guest's next mode wants them. */
void mm_prepare_exit(struct vcpu *v)
{
    uint64_t root = v->pub.in_kernel ? v->pub.kernel_cr3 : v->pub.user_cr3;

    v->exit_cr3 = root;
    if (v->exit_via == EXIT_RING0 && slow_ring0()) {
        v->emu_cr3 = v->pub.kernel_cr3; /* the next descent loads it */
    } else if (v->emu_cr3 != root || v->flush == FLUSH_ALL) {
        v->emu_cr3 = root;
        write_cr3(root);
    } else if (v->flush == FLUSH_ONE) {
        invlpg(v->flush_va);
    }
    v->flush = FLUSH_NONE;
}
