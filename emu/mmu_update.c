/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mmu_update and update_va_mapping: entries of the guest's page tables. */
#include "emu/emu.h"

/* mmu_update: ptr's low bits, public/xen.h. */
#define UPDATE_TYPE(ptr) ((ptr)&3)

/*
 * Where AMD's chipsets have the register of reset reasons. Linux reads it from
 * 6.16 on, in every domain on a Zen processor, and does not look whether it
 * could be mapped (arch/x86/kernel/cpu/amd.c): where Xen refuses, it oopses.
 * Here its page can be read, as a bus on which nobody answers; Linux knows
 * that value as none.
 */
#define RESET_REASON_MFN 0xfed80UL

static const uint8_t nobody[PAGE_SIZE]
    __attribute__((aligned(PAGE_SIZE))) = {[0 ... PAGE_SIZE - 1] = 0xff};

#define NOBODY_MFN (((uint64_t)nobody - DIRECTMAP_VIRT) >> PAGE_SHIFT)

static pte_t without_device(pte_t entry)
{
    if (!(entry & PTE_P) || PTE_MFN(entry) != RESET_REASON_MFN)
        return entry;
    entry &= ~(pte_t)PTE_RW;
    return entry ^ (RESET_REASON_MFN ^ NOBODY_MFN) << PAGE_SHIFT;
}

/* May the guest map this machine page? */
static bool mappable(pte_t entry)
{
    uint64_t mfn = PTE_MFN(entry);

    if (!(entry & PTE_P) || mfn_guest(mfn))
        return true;
    return mfn == NOBODY_MFN || mfn == SHARED_INFO_GPA >> PAGE_SHIFT ||
           (mfn >= GRANT_FRAMES_GPA >> PAGE_SHIFT &&
            mfn < (GRANT_FRAMES_GPA + GRANT_FRAMES_BYTES) >> PAGE_SHIFT);
}

/* An entry of an L1 table, or of a page that is not in use as a table. */
static int write_entry(pte_t *e, pte_t value, bool preserve_ad)
{
    value = without_device(value);
    if (!mappable(value))
        return -XEN_EINVAL;
    if (preserve_ad) {
        exchange_entry(e, value, true);
        return 0;
    }
    if (value & PTE_P)
        value |= PTE_US;
    /* No store that changes nothing: KVM may be watching the page. */
    if (READ_ONCE(*e) != value)
        WRITE_ONCE(*e, value);
    return 0;
}

static int update_entry(uint64_t ptr, uint64_t value)
{
    uint64_t mfn = ptr >> PAGE_SHIFT;
    unsigned int index = (ptr & (PAGE_SIZE - 1)) / sizeof(pte_t);
    pte_t *t = machine(mfn << PAGE_SHIFT);
    bool preserve_ad = UPDATE_TYPE(ptr) == MMU_PT_UPDATE_PRESERVE_AD;
    int level;

    if (UPDATE_TYPE(ptr) == MMU_MACHPHYS_UPDATE) {
        if (!mfn_guest(mfn) || mfn >= shared->m2p_nr_entries)
            return -XEN_EINVAL;
        m2p[mfn] = value;
        return 0;
    }
    if (UPDATE_TYPE(ptr) == 3)
        return -XEN_ENOSYS;
    if (ptr & (sizeof(pte_t) - 1) & ~3UL || !mfn_guest(mfn))
        return -XEN_EINVAL;
    level = table_level(mfn);
    if (level <= 1)
        return write_entry(&t[index], value, preserve_ad);
    if (emu_slot(level, index))
        return -XEN_EINVAL;
    return write_link(&t[index], level, value, preserve_ad);
}

/* How many of a list were done, for a guest that asks; and the call's rc. */
int report_done(uint64_t pdone, uint64_t done, int rc)
{
    uint32_t n = (uint32_t)done;

    /* As Xen: where it cannot be told, the call has been done all the same. */
    if (pdone)
        copy_to_guest(pdone, &n, sizeof(n));
    return rc;
}

int64_t do_mmu_update(struct vcpu *v, guest_word ureqs, guest_word count,
                      guest_word pdone, guest_word domid, guest_word a5)
{
    uint64_t done = 0;
    int rc = 0;

    if (!is_self(domid))
        return -XEN_ESRCH;
    for (; done < (uint32_t)count; done++) {
        mmu_update_t u;

        rc = copy_from_guest(&u, ureqs + done * sizeof(u), sizeof(u));
        if (!rc)
            rc = update_entry(u.ptr, u.val);
        if (rc)
            break;
    }
    v->pub.counters.mmu_update += done;
    return report_done(pdone, done, rc);
}

static int flush_by_flags(struct vcpu *v, uint64_t va, uint64_t flags)
{
    uint64_t bitmap_va = flags & ~(uint64_t)UVMF_FLUSHTYPE_MASK;
    uint64_t mask = ~0UL;

    if ((flags & UVMF_FLUSHTYPE_MASK) == UVMF_NONE)
        return 0;
    if ((flags & UVMF_FLUSHTYPE_MASK) == 3)
        return -XEN_ENOSYS;
    if (bitmap_va == UVMF_LOCAL)
        mask = 1UL << v->pub.id;
    else if (bitmap_va != UVMF_ALL &&
             copy_from_guest(&mask, bitmap_va, sizeof(mask)))
        return -XEN_EFAULT;
    if ((flags & UVMF_FLUSHTYPE_MASK) == UVMF_INVLPG &&
        mask & 1UL << v->pub.id) {
        flush_local_va(v, va);
        mask &= ~(1UL << v->pub.id);
    }
    flush_vcpus(v, mask);
    return 0;
}

int64_t do_update_va_mapping(struct vcpu *v, guest_word va, guest_word value,
                             guest_word flags, guest_word a4, guest_word a5)
{
    pte_t *e;
    int rc;

    if (!canonical(va) || in_hole(va))
        return -XEN_EINVAL;
    e = walk(v->pub.kernel_cr3, va, 1);
    if (!e)
        return -XEN_EINVAL;
    /* Through a linear mapping it could be an entry of an upper table, which
     * Xen refuses as well. */
    if (table_level(((uint64_t)e - DIRECTMAP_VIRT) >> PAGE_SHIFT) > 1)
        return -XEN_EINVAL;
    rc = write_entry(e, value, false);
    return rc ? rc : flush_by_flags(v, va, flags);
}

int64_t do_update_va_mapping_otherdomain(struct vcpu *v, guest_word va,
                                         guest_word value, guest_word flags,
                                         guest_word domid, guest_word a5)
{
    if (!is_self(domid))
        return -XEN_EPERM;
    return do_update_va_mapping(v, va, value, flags, 0, a5);
}
