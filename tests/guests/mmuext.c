/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mmuext_op: pins, roots, flushes, and what it must refuse. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "mmuext";

#define NEW_VA 0x0000020000000000UL
static uint64_t l4[512] PAGE_ALIGNED, l3[512] PAGE_ALIGNED,
    l2[512] PAGE_ALIGNED, l1[512] PAGE_ALIGNED;
static uint8_t data[PAGE_SIZE] PAGE_ALIGNED, other[PAGE_SIZE] PAGE_ALIGNED;

static uint64_t pte_to(const void *page, uint64_t flags)
{
    return mfn_of(page) * PAGE_SIZE | flags;
}

static bool mapped(void)
{
    PROBE_OP("movb $'x', (%0)", : : "r"(NEW_VA));
    return !caught.taken;
}

static void test_roots(void)
{
    uint64_t old_root = mfn_of((void *)start_info->pt_base), cr3;
    const uint64_t *boot = (const uint64_t *)start_info->pt_base;

    for (unsigned int i = 0; i < 512; i++)
        if (i < 256 || i >= 272)
            l4[i] = boot[i];
    l1[0] = pte_to(data, PTE_KERNEL);
    l2[0] = pte_to(l1, PTE_USER);
    l3[0] = pte_to(l2, PTE_USER);
    l4[NEW_VA >> 39] = pte_to(l3, PTE_USER);
    check(!page_protect(l1, false) && !page_protect(l2, false) &&
              !page_protect(l3, false) && !page_protect(l4, false),
          "tables become read-only", "refused");
    check_rc("pin L1", pin(l1, 1), 0);
    check_rc("pin L2", pin(l2, 2), 0);
    check_rc("pin L3", pin(l3, 3), 0);
    check_rc("pin L4", pin(l4, 4), 0);
    check(!mapped(), "not in the boot root", "mapped");
    check_rc("NEW_BASEPTR", mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l4), 0), 0);
    check(mapped() && data[0] == 'x', "in the new one", "vector %u error 0x%lx",
          caught.vector, caught.error);
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    check_eq("mov from cr3 shows it", cr3 >> 12, mfn_of(l4));
    check_rc("hypercalls work there", CALL(xen_version, XENVER_pagesize, 0),
             PAGE_SIZE);
    check_rc("an entry less",
             mmu_write(&l4[NEW_VA >> 39], 0, MMU_NORMAL_PT_UPDATE), 0);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    check(!mapped(), "gone", "still mapped");
    check_rc("an entry more",
             mmu_write(&l4[NEW_VA >> 39], pte_to(l3, PTE_USER),
                       MMU_NORMAL_PT_UPDATE),
             0);
    check(mapped(), "there again", "vector %u", caught.vector);
    check_rc("and back", mmuext(MMUEXT_NEW_BASEPTR, old_root, 0), 0);
    check(!mapped(), "not there", "mapped");
    check_rc("unpin L4", unpin(l4), 0);
    check_rc("unpin L3", unpin(l3), 0);
    check_rc("unpin L2", unpin(l2), 0);
    check_rc("unpin L1", unpin(l1), 0);
    check(!page_protect(l1, true) && !page_protect(l4, true),
          "ordinary pages again", "refused");
    PROBE_OP("movq $0, %0", : "=m"(l1[1]) :);
    check(!caught.taken, "and writable", "vector %u", caught.vector);
}

static bool l1_is_writable(void)
{
    if (page_protect(l1, false))
        panic("page_protect");
    PROBE_OP("movq $0, %0", : "=m"(l1[9]) :);
    return !caught.taken;
}

/* A root in use is one, pinned or not; and no longer than that. */
static void test_unpinned_roots(void)
{
    uint64_t old_root = mfn_of((void *)start_info->pt_base);

    page_protect(l4, false);
    check(!l1_is_writable(), "not a table", "written");
    check_rc("NEW_BASEPTR, not pinned",
             mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l4), 0), 0);
    check(l1_is_writable(), "its L1", "vector %u", caught.vector);
    check_rc("NEW_USER_BASEPTR as well",
             mmuext(MMUEXT_NEW_USER_BASEPTR, mfn_of(l4), 0), 0);
    check_rc("back", mmuext(MMUEXT_NEW_BASEPTR, old_root, 0), 0);
    check(l1_is_writable(), "user space's root", "vector %u", caught.vector);
    check_rc("none for user space", mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
    check(!l1_is_writable(), "not in use", "written");
    check_rc("pin", pin(l4, 4), 0);
    check_rc("use", mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l4), 0), 0);
    check_rc("unpin in use", unpin(l4), 0);
    check(l1_is_writable(), "still in use", "vector %u", caught.vector);
    check_rc("and back", mmuext(MMUEXT_NEW_BASEPTR, old_root, 0), 0);
    check(!l1_is_writable(), "no more", "written");
}

static void test_pin_refusals(void)
{
    struct mmuext_op op = {.cmd = MMUEXT_CLEAR_PAGE};

    check_rc("pin", pin(l2, 2), 0);
    check_rc("pin it again", pin(l2, 2), -XEN_EINVAL);
    check_rc("pin it as an L3", pin(l2, 3), -XEN_EINVAL);
    check_rc("its L1 is pinned as an L2", pin(l1, 2), -XEN_EINVAL);
    check_rc("unpin what is not", unpin(l1), -XEN_EINVAL);
    check_rc("a root that is an L2", mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l2), 0),
             -XEN_EINVAL);
    op.arg1.mfn = mfn_of(l1);
    check_rc("CLEAR_PAGE of a table", CALL(mmuext_op, &op, 1, 0, DOMID_SELF),
             -XEN_EINVAL);
    check_rc("unpin", unpin(l2), 0);
    check_rc("unpin it again", unpin(l2), -XEN_EINVAL);
    check_rc("CLEAR_PAGE of what was one",
             CALL(mmuext_op, &op, 1, 0, DOMID_SELF), 0);
}

static void test_flushes(void)
{
    uint64_t mask = 1;
    struct mmuext_op op = {.cmd = MMUEXT_TLB_FLUSH_MULTI};

    check_rc("TLB_FLUSH_LOCAL", mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
    check_rc("TLB_FLUSH_ALL", mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    check_rc("INVLPG_LOCAL", mmuext(MMUEXT_INVLPG_LOCAL, (uint64_t)data, 0), 0);
    check_rc("INVLPG_ALL", mmuext(MMUEXT_INVLPG_ALL, (uint64_t)data, 0), 0);
    set_xen_guest_handle(op.arg2.vcpumask, &mask);
    check_rc("TLB_FLUSH_MULTI", CALL(mmuext_op, &op, 1, 0, DOMID_SELF), 0);
    op.cmd = MMUEXT_INVLPG_MULTI;
    op.arg1.linear_addr = (uint64_t)data;
    check_rc("INVLPG_MULTI", CALL(mmuext_op, &op, 1, 0, DOMID_SELF), 0);
    set_xen_guest_handle(op.arg2.vcpumask, BAD_POINTER);
    check_rc("INVLPG_MULTI with a bad mask pointer",
             CALL(mmuext_op, &op, 1, 0, DOMID_SELF), -XEN_EINVAL);
    check_rc("FLUSH_CACHE: for who has a device",
             mmuext(MMUEXT_FLUSH_CACHE, 0, 0), -XEN_EACCES);
    check_rc("FLUSH_CACHE_GLOBAL: likewise",
             mmuext(MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0), -XEN_EINVAL);
}

static void test_pages(void)
{
    struct mmuext_op op = {.cmd = MMUEXT_CLEAR_PAGE};
    unsigned int set = 0;

    memset(data, 1, sizeof(data));
    memset(other, 2, sizeof(other));
    op.arg1.mfn = mfn_of(data);
    check_rc("CLEAR_PAGE", CALL(mmuext_op, &op, 1, 0, DOMID_SELF), 0);
    for (unsigned int i = 0; i < PAGE_SIZE; i++)
        set += READ_ONCE(data[i]) != 0;
    check_eq("all of it", set, 0);
    op.cmd = MMUEXT_COPY_PAGE;
    op.arg2.src_mfn = mfn_of(other);
    check_rc("COPY_PAGE", CALL(mmuext_op, &op, 1, 0, DOMID_SELF), 0);
    check_eq("all of it", (uint64_t)memcmp(data, other, PAGE_SIZE), 0);
}

static void test_refusals(void)
{
    struct mmuext_op ops[3] = {{.cmd = MMUEXT_TLB_FLUSH_LOCAL},
                               {.cmd = 99},
                               {.cmd = MMUEXT_TLB_FLUSH_LOCAL}};
    uint32_t done = 77;

    check_rc("unknown command", mmuext(99, 0, 0), -XEN_ENOSYS);
    check(CALL(mmuext_op, ops, 3, &done, DOMID_SELF) < 0,
          "a batch with a bad one", "accepted");
    check_eq("one was done before it", done, 1);
    check_rc("MARK_SUPER", mmuext(MMUEXT_MARK_SUPER, 0, 0), -XEN_EOPNOTSUPP);
    check_rc("UNMARK_SUPER", mmuext(MMUEXT_UNMARK_SUPER, 0, 0),
             -XEN_EOPNOTSUPP);
    check_rc("where the count cannot be told",
             CALL(mmuext_op, ops, 1, BAD_POINTER, DOMID_SELF), 0);
    check_rc("ops at a bad pointer",
             CALL(mmuext_op, BAD_POINTER, 1, 0, DOMID_SELF), -XEN_EFAULT);
    check(mmuext(MMUEXT_PIN_L4_TABLE, 0xfffffff, 0) < 0,
          "pin a page that is not there", "accepted");
    check(mmuext(MMUEXT_PIN_L1_TABLE, 0, 0) < 0, "pin Xen's page 0",
          "accepted");
    check(mmuext(MMUEXT_NEW_BASEPTR, 0xfffffff, 0) < 0,
          "a root that is not there", "accepted");
    check(mmuext(MMUEXT_NEW_BASEPTR, 0x10, 0) < 0, "a root in Xen's memory",
          "accepted");
    check(mmuext(MMUEXT_NEW_USER_BASEPTR, 0xfffffff, 0) < 0,
          "a user root that is not there", "accepted");
    check(CALL(mmuext_op, ops, 1, 0, 1234) < 0, "another domain", "accepted");
    check_rc("still alive", CALL(xen_version, XENVER_pagesize, 0), PAGE_SIZE);
}

void guest_main(void)
{
    test_roots();
    test_unpinned_roots();
    test_pin_refusals();
    test_flushes();
    test_pages();
    test_refusals();
}
