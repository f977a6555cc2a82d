/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory as a root maps it that is not the loaded one: by hand, through
 * machine memory. Slower than uaccess.c, and for instructions that are rare.
 */
#include "emu/emu.h"

/* Number of the first machine page that an entry of level maps. */
static uint64_t entry_mfn(pte_t entry, int level)
{
    return PTE_MFN(entry) & ~(pt_pages(level) - 1);
}

/*
 * The processor's own note that a page was used, which guests go by. False: the
 * entry is another one by now; a guest that hears of a fault looks for itself.
 */
static bool mark(pte_t *e, pte_t old, bool write)
{
    pte_t marked = old | PTE_A | (write ? PTE_D : 0);

    return marked == old ||
           __atomic_compare_exchange_n(e, &old, marked, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

/*
 * Where va is. The user bit is not looked at: all that a root maps below emu's
 * slots is for ring 3, and where the bit is not set yet, it would be on a fault
 * (mm.c). Emu's own slots and pages map nothing.
 */
static void *resolve(uint64_t root, uint64_t va, bool write,
                     struct page_fault *fault)
{
    uint64_t mfn = root >> PAGE_SHIFT;
    pte_t entry, *e = NULL;
    bool writable = true;
    int level;

    fault->va = va;
    fault->error_code = write ? PF_WRITE : 0;
    if (!canonical(va) || in_hole(va))
        return NULL;
    for (level = PT_LEVELS; level > 0; level--) {
        if (!mfn_guest(mfn))
            return NULL;
        e = (pte_t *)machine(mfn << PAGE_SHIFT) + pt_index(va, level);
        entry = READ_ONCE(*e);
        if (!(entry & PTE_P))
            return NULL;
        writable &= !!(entry & PTE_RW);
        mfn = PTE_MFN(entry);
        if (level == 1 || pt_is_large(entry, level))
            break;
    }
    if (write && !writable) {
        fault->error_code |= PF_PRESENT;
        return NULL;
    }
    mfn = entry_mfn(entry, level) + (va >> PAGE_SHIFT & (pt_pages(level) - 1));
    if (!mfn_guest(mfn) || !mark(e, entry, write))
        return NULL;
    return (char *)machine(mfn << PAGE_SHIFT) + (va & (PAGE_SIZE - 1));
}

static uint64_t in_page(uint64_t va, uint64_t bytes)
{
    uint64_t rest = PAGE_SIZE - (va & (PAGE_SIZE - 1));

    return bytes < rest ? bytes : rest;
}

bool copy_from_root(uint64_t root, void *to, uint64_t va, uint64_t bytes,
                    struct page_fault *fault)
{
    for (uint64_t n, done = 0; done < bytes; done += n) {
        const void *from = resolve(root, va + done, false, fault);

        n = in_page(va + done, bytes - done);
        if (!from)
            return false;
        memcpy((char *)to + done, from, n);
    }
    return true;
}

/* What user space's root need not map. */
static bool is_kernel_loaded(const struct vcpu *v)
{
    return v->emu_cr3 == v->pub.kernel_cr3;
}

int copy_from_kernel(struct vcpu *v, void *to, uint64_t va, uint64_t bytes)
{
    struct page_fault fault;

    if (is_kernel_loaded(v))
        return copy_from_guest(to, va, bytes);
    return copy_from_root(v->pub.kernel_cr3, to, va, bytes, &fault)
               ? 0
               : -XEN_EFAULT;
}

int copy_to_kernel(struct vcpu *v, uint64_t va, const void *from,
                   uint64_t bytes)
{
    struct page_fault fault;

    if (is_kernel_loaded(v))
        return copy_to_guest(va, from, bytes);
    return copy_to_root(v->pub.kernel_cr3, va, from, bytes, &fault)
               ? 0
               : -XEN_EFAULT;
}

bool copy_to_root(uint64_t root, uint64_t va, const void *from, uint64_t bytes,
                  struct page_fault *fault)
{
    for (uint64_t n, done = 0; done < bytes; done += n) {
        void *to = resolve(root, va + done, true, fault);

        n = in_page(va + done, bytes - done);
        if (!to)
            return false;
        memcpy(to, (const char *)from + done, n);
    }
    return true;
}
