/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the guest's pages are page tables, and of which level: one word for
 * each machine page (EMU_TYPE_* in abi/emu.h), counted as Xen counts types
 * (get_page_type() and alloc_page_type() in its x86/mm.c). A page is a table
 * as long as something says so: an entry of a table one level above, a pin, or
 * a vCPU that has it as its root. The first of them has its entries looked at,
 * which makes tables of what they name; the last takes that back.
 *
 * The counts are exact for a guest that Xen would run, without a lock and
 * without looking at the stores into L1 tables, because of its rules:
 *
 * - Entries that link tables stand in L2s and above. Those of a table in use
 *   change by mmu_update alone, where one exchange says what went and what
 *   came; a page that is not in use is written by plain stores, and is looked
 *   at when its use begins. (A guest that stores into a table of an upper
 *   level in use gets a page fault here as there: see fix_page_fault().)
 * - A page has one type at a time. An entry of a table of level n that names a
 *   table which is not of level n - 1 is a linear mapping, and neither coming
 *   nor going does it count.
 * - Who ends the last use of a table or begins its first one does not change
 *   it from another vCPU at the same time.
 *
 * A guest that breaks them has wrong counts for its own tables: they never
 * wrap, nothing here loops or goes deeper than the levels, and what they
 * decide is which of its own pages the guest may write.
 */
#include "emu/emu.h"

#define LEVEL ((uint32_t)EMU_TYPE_LEVEL)
#define TYPE_MOST (~0U - EMU_TYPE_REF) /* from here on it is one for good */

static uint32_t *type_of(uint64_t mfn)
{
    return &page_types[mfn];
}

/* An entry of a table of that level: does it name a table? */
static bool links(pte_t entry, int level)
{
    return level > 1 && entry & PTE_P && !pt_is_large(entry, level);
}

static void begin_table(uint64_t mfn, int level);
static void end_table(uint64_t mfn, int level);

/* Something says that mfn is a table of that level: false if it is one of
 * another, or not the guest's, and does not count. */
static bool get_table(uint64_t mfn, int level)
{
    uint32_t *type, old, new;

    if (!mfn_guest(mfn))
        return false;
    type = type_of(mfn);
    old = READ_ONCE(*type);
    do {
        if (old >= EMU_TYPE_REF && (int)(old & LEVEL) != level)
            return false;
        if (old >= TYPE_MOST)
            return true;
        new = (old & ~LEVEL) + EMU_TYPE_REF + (uint32_t)level;
    } while (!__atomic_compare_exchange_n(type, &old, new, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if (old < EMU_TYPE_REF)
        begin_table(mfn, level);
    return true;
}

/* It says so no more. */
static void put_table(uint64_t mfn, int level)
{
    uint32_t *type, old, new;

    if (!mfn_guest(mfn))
        return;
    type = type_of(mfn);
    old = READ_ONCE(*type);
    do {
        if ((int)(old & LEVEL) != level || old < EMU_TYPE_REF ||
            old >= TYPE_MOST)
            return;
        new = old - EMU_TYPE_REF;
        if (new < EMU_TYPE_REF)
            new &= ~LEVEL;
    } while (!__atomic_compare_exchange_n(type, &old, new, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if (new < EMU_TYPE_REF)
        end_table(mfn, level);
}

#define GROUP 8

static bool none_present(const pte_t *t)
{
    return !((t[0] | t[1] | t[2] | t[3] | t[4] | t[5] | t[6] | t[7]) & PTE_P);
}

/* From entry (*i) on: the next that is present and the guest's, and its value.
 * Most tables are empty for long stretches. */
static inline bool next_present(const pte_t *t, int level, unsigned int *i,
                                pte_t *e)
{
    for (; *i < PT_ENTRIES; ++*i) {
        if (*i % GROUP == 0 && none_present(&t[*i])) {
            *i += GROUP - 1;
            continue;
        }
        *e = READ_ONCE(t[*i]);
        if (*e & PTE_P && !emu_slot(level, *i))
            return true;
    }
    return false;
}

/* Entries get their user bit here, as both halves of the guest run at ring 3:
 * one that another vCPU or the CPU writes meanwhile gets it when it is used. */
static void begin_table(uint64_t mfn, int level)
{
    pte_t *t = machine(mfn << PAGE_SHIFT), e;

    for (unsigned int i = 0; next_present(t, level, &i, &e); i++) {
        if (!(e & PTE_US))
            replace_entry(&t[i], e, e | PTE_US);
        if (links(e, level))
            get_table(PTE_MFN(e), level - 1);
    }
}

static void end_table(uint64_t mfn, int level)
{
    const pte_t *t = machine(mfn << PAGE_SHIFT);
    pte_t e;

    if (level == 1)
        return;
    for (unsigned int i = 0; next_present(t, level, &i, &e); i++) {
        if (links(e, level))
            put_table(PTE_MFN(e), level - 1);
    }
}

/* --- entries that name tables --------------------------------------------- */

/*
 * A new entry in a table in use, above L1. What it names is a table before
 * anything can be reached through it, what went is one until nothing can.
 */
int write_link(pte_t *e, int level, pte_t value, bool preserve_ad)
{
    pte_t old;

    if (value & PTE_P && !mfn_guest(PTE_MFN(value)))
        return -XEN_EINVAL;
    if (value & PTE_P)
        value |= PTE_US;
    /* More than half are: a store would have KVM look at the page. */
    if (READ_ONCE(*e) == value)
        return 0;
    if (links(value, level))
        get_table(PTE_MFN(value), level - 1);
    old = exchange_entry(e, value, preserve_ad);
    if (links(old, level))
        put_table(PTE_MFN(old), level - 1);
    return 0;
}

/* --- pins ----------------------------------------------------------------- */

/* The guest says that this is a table of that level: 0 or -EINVAL. */
int pin(uint64_t mfn, int level)
{
    if (!get_table(mfn, level))
        return -XEN_EINVAL;
    if (__atomic_fetch_or(type_of(mfn), EMU_TYPE_PINNED, __ATOMIC_SEQ_CST) &
        EMU_TYPE_PINNED) {
        put_table(mfn, level);
        return -XEN_EINVAL;
    }
    return 0;
}

static bool is_root(uint64_t mfn)
{
    for (uint32_t id = 0; id < shared->nr_vcpus; id++) {
        const struct emu_vcpu *v = &vcpu_by_id(id)->pub;

        if (READ_ONCE(v->kernel_cr3) == mfn << PAGE_SHIFT ||
            READ_ONCE(v->user_cr3) == mfn << PAGE_SHIFT)
            return true;
    }
    return false;
}

/*
 * A root that is not pinned counts once for all vCPUs that use it, with
 * EMU_TYPE_ROOT. Who finds that none does ends that; if one has begun to
 * meanwhile, it either sees the mark gone, or is seen here (set_root()).
 */
static void release_root(uint64_t mfn)
{
    uint32_t *type = type_of(mfn);

    if (is_root(mfn) ||
        !(__atomic_fetch_and(type, ~(uint32_t)EMU_TYPE_ROOT, __ATOMIC_SEQ_CST) &
          EMU_TYPE_ROOT))
        return;
    if (is_root(mfn) &&
        !(__atomic_fetch_or(type, EMU_TYPE_ROOT, __ATOMIC_SEQ_CST) &
          EMU_TYPE_ROOT))
        return;
    put_table(mfn, PT_LEVELS);
}

static bool hold_root(uint64_t mfn)
{
    uint32_t *type = type_of(mfn), old = READ_ONCE(*type);

    if (old & (EMU_TYPE_PINNED | EMU_TYPE_ROOT))
        return (old & LEVEL) == PT_LEVELS;
    if (!get_table(mfn, PT_LEVELS))
        return false;
    if (__atomic_fetch_or(type, EMU_TYPE_ROOT, __ATOMIC_SEQ_CST) &
        EMU_TYPE_ROOT)
        put_table(mfn, PT_LEVELS);
    return true;
}

/*
 * And that it is one no more: 0 or -EINVAL. A root in use stays one, and what
 * the pin counted is the root's then.
 */
int unpin(uint64_t mfn)
{
    uint32_t *type = type_of(mfn), old = READ_ONCE(*type), new;

    do {
        if (!(old & EMU_TYPE_PINNED))
            return -XEN_EINVAL;
        new = old & ~(uint32_t)EMU_TYPE_PINNED;
        if ((old & LEVEL) == PT_LEVELS)
            new |= EMU_TYPE_ROOT;
    } while (!__atomic_compare_exchange_n(type, &old, new, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if (!(new &EMU_TYPE_ROOT) || old & EMU_TYPE_ROOT)
        put_table(mfn, (int)(old & LEVEL));
    if (new &EMU_TYPE_ROOT)
        release_root(mfn);
    return 0;
}

/*
 * Have one of a vCPU's two roots be that page: 0 or -EINVAL. The second look
 * is for another vCPU that unpinned it before it could see that we use it.
 */
static int set_root(uint64_t *cr3, uint64_t mfn, bool user)
{
    uint64_t old;

    if (!mfn_guest(mfn) || !hold_root(mfn))
        return -XEN_EINVAL;
    /* An interrupt may load the kernel's root as soon as it is named. */
    install_emu_slots(mfn << PAGE_SHIFT, user);
    old = __atomic_exchange_n(cr3, mfn << PAGE_SHIFT, __ATOMIC_SEQ_CST);
    hold_root(mfn);
    drop_root(old);
    return 0;
}

int set_kernel_root(struct vcpu *v, uint64_t mfn)
{
    return set_root(&v->pub.kernel_cr3, mfn, false);
}

int set_user_root(struct vcpu *v, uint64_t mfn)
{
    return set_root(&v->pub.user_cr3, mfn,
                    mfn << PAGE_SHIFT != v->pub.kernel_cr3);
}

/* The vCPU has another root by now, or none. */
void drop_root(uint64_t cr3)
{
    uint64_t mfn = cr3 >> PAGE_SHIFT;

    if (mfn_guest(mfn) && READ_ONCE(*type_of(mfn)) & EMU_TYPE_ROOT)
        release_root(mfn);
}
