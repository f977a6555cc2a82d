/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mmu_update, update_va_mapping, and page tables written by plain stores. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "mmu";

/* Two pages with different contents, and a window to look at them through. */
static uint8_t red[PAGE_SIZE] PAGE_ALIGNED, green[PAGE_SIZE] PAGE_ALIGNED;
static volatile uint8_t window[PAGE_SIZE] PAGE_ALIGNED;

static uint64_t pte_to(const void *page, uint64_t flags)
{
    return mfn_of(page) * PAGE_SIZE | flags;
}

static void *window_va(void)
{
    return (void *)(uintptr_t)window;
}

static void test_update_va_mapping(void)
{
    static const struct {
        const char *name;
        uint64_t flags;
    } flushes[] = {
        {"no flush, then by hand", UVMF_NONE},
        {"invlpg local", UVMF_INVLPG | UVMF_LOCAL},
        {"invlpg all", UVMF_INVLPG | UVMF_ALL},
        {"flush local", UVMF_TLB_FLUSH | UVMF_LOCAL},
        {"flush all", UVMF_TLB_FLUSH | UVMF_ALL},
    };
    uint64_t mask = 1;

    for (unsigned int i = 0; i < ARRAY_SIZE(flushes); i++) {
        const void *page = i % 2 ? green : red;

        (void)window[0];
        check_rc(flushes[i].name,
                 CALL(update_va_mapping, window, pte_to(page, PTE_KERNEL),
                      flushes[i].flags),
                 0);
        if (!flushes[i].flags)
            mmuext(MMUEXT_INVLPG_LOCAL, (uint64_t)window, 0);
        check(window[9] == (i % 2 ? 'g' : 'r'), "the other page is seen",
              "after %s: '%c'", flushes[i].name, window[9]);
    }
    check_rc("invlpg by vCPU mask",
             CALL(update_va_mapping, window, pte_to(green, PTE_KERNEL),
                  (uint64_t)&mask | UVMF_INVLPG | UVMF_MULTI),
             0);
    check_eq("seen", window[9], 'g');
    check_rc("not present",
             CALL(update_va_mapping, window, 0, UVMF_INVLPG | UVMF_LOCAL), 0);
    PROBE_OP("movb $1, (%0)", : : "r"(window));
    check_trap("gone", X86_PF, PF_W);
    check_rc(
        "present again",
        CALL(update_va_mapping, window, pte_to(red, PTE_KERNEL), UVMF_NONE), 0);
    check_eq("without a flush, from not present", window[9], 'r');
    check(CALL(update_va_mapping, BAD_POINTER, pte_to(red, PTE_KERNEL),
               UVMF_NONE) < 0,
          "no page table there", "accepted");
    check_rc("an address that is not canonical",
             CALL(update_va_mapping, (uint64_t)window ^ 1UL << 60,
                  pte_to(red, PTE_KERNEL), UVMF_NONE),
             -XEN_EINVAL);
    check(CALL(update_va_mapping, XEN_POINTER, pte_to(red, PTE_KERNEL),
               UVMF_NONE) < 0,
          "Xen's hole is refused", "accepted");
}

static void test_mmu_update(void)
{
    uint64_t *entry = pte_of(window_va(), 1);
    mmu_update_t batch[3];
    uint32_t done = 77;

    check_rc("normal",
             mmu_write(entry, pte_to(green, PTE_KERNEL), MMU_NORMAL_PT_UPDATE),
             0);
    mmuext(MMUEXT_INVLPG_LOCAL, (uint64_t)window, 0);
    check_eq("seen", window[9], 'g');
    window[8] = 1; /* sets D */
    check_rc("preserve A/D",
             mmu_write(entry, pte_to(green, PTE_P | PTE_RW),
                       MMU_PT_UPDATE_PRESERVE_AD),
             0);
    check_eq("A and D are kept", *entry & (PTE_A | PTE_D), PTE_A | PTE_D);
    for (unsigned int i = 0; i < 3; i++) {
        batch[i].ptr = maddr_of(entry) | MMU_NORMAL_PT_UPDATE;
        batch[i].val = pte_to(i % 2 ? green : red, PTE_KERNEL);
    }
    check_rc("a batch", CALL(mmu_update, batch, 3, &done, DOMID_SELF), 0);
    check_eq("all done", done, 3);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    check_eq("the last one counts", window[9], 'r');
    batch[1].ptr = (0xffffffffUL << 12) | MMU_NORMAL_PT_UPDATE;
    check(CALL(mmu_update, batch, 3, &done, DOMID_SELF) < 0,
          "a table that is not there", "accepted");
    check_eq("one was done before it", done, 1);
    batch[1].ptr = 0 | MMU_NORMAL_PT_UPDATE;
    check(CALL(mmu_update, batch, 3, 0, DOMID_SELF) < 0,
          "a table in page 0, Xen's", "accepted");
    check_rc("an empty batch", CALL(mmu_update, batch, 0, &done, DOMID_SELF),
             0);
    check_rc("requests at a bad pointer",
             CALL(mmu_update, BAD_POINTER, 1, 0, DOMID_SELF), -XEN_EFAULT);
    check(CALL(mmu_update, batch, 1, 0, 1234) < 0, "somebody else's tables",
          "accepted");
}

/* Devices are not the guest's; one page of theirs reads as if nobody were
 * there, for the sake of Linux (emu/mmu_update.c). */
static void test_devices(void)
{
    uint64_t *entry = pte_of(window_va(), 1), before = *entry;

    check_rc("AMD's reset reasons can be mapped",
             CALL(update_va_mapping, window, 0xfed80UL << 12 | PTE_KERNEL,
                  UVMF_INVLPG | UVMF_LOCAL),
             0);
    check_eq("and read as none", *(volatile uint32_t *)(window + 0x3c0), ~0U);
    PROBE_OP("movl $1, (%0)", : : "r"(window));
    check_trap("but not be written", X86_PF, PF_W | PF_P);
    check_eq("the entry can be written back",
             (uint64_t)mmu_write(entry, *entry, MMU_NORMAL_PT_UPDATE), 0);
    check(CALL(update_va_mapping, window, 0xfee00UL << 12 | PTE_KERNEL,
               UVMF_INVLPG | UVMF_LOCAL) < 0,
          "the LAPIC cannot", "accepted");
    check_rc("back",
             CALL(update_va_mapping, window, before, UVMF_INVLPG | UVMF_LOCAL),
             0);
}

static void test_machphys(void)
{
    uint64_t mfn = mfn_of(red), pfn = m2p[mfn];
    mmu_update_t update = {.ptr = mfn << 12 | MMU_MACHPHYS_UPDATE, .val = 4711};

    check_rc("machphys", CALL(mmu_update, &update, 1, 0, DOMID_SELF), 0);
    check_eq("the table shows it", m2p[mfn], 4711);
    update.val = pfn;
    CALL(mmu_update, &update, 1, 0, DOMID_SELF);
    check_eq("and back", m2p[mfn], pfn);
    update.ptr = 0xfffffffUL << 12 | MMU_MACHPHYS_UPDATE;
    check(CALL(mmu_update, &update, 1, 0, DOMID_SELF) < 0,
          "machphys of a page that is not there", "accepted");
}

/* Those that the domain was built with: nobody ever pinned the lower ones. */
static void test_first_tables(void)
{
    uint64_t *l1_entry = pte_of(window_va(), 1);
    uint64_t *l2_entry = pte_of(window_va(), 2);
    uint64_t value = pte_to(green, PTE_KERNEL);

    PROBE_OP("movq %1, %0", : "=m"(*l1_entry) : "r"(value));
    check(!caught.taken, "mov to an L1 table of the builder's",
          "vector %u error 0x%lx", caught.vector, caught.error);
    mmuext(MMUEXT_INVLPG_LOCAL, (uint64_t)window, 0);
    check_eq("and it maps", window[9], 'g');
    value = *l2_entry;
    PROBE_OP("movq %1, %0", : "=m"(*l2_entry) : "r"(value));
    check_trap("an L2 is the hypervisor's to write", X86_PF, PF_P | PF_W);
}

/* Tables of our own below a free slot, filled by stores before pinning. */
#define NEW_VA 0x0000020000000000UL
static uint64_t l3[512] PAGE_ALIGNED, l2[512] PAGE_ALIGNED,
    l1[512] PAGE_ALIGNED;

static void test_new_tables(void)
{
    volatile uint8_t *at = (volatile uint8_t *)NEW_VA;

    l1[0] = pte_to(red, PTE_KERNEL);
    l2[0] = pte_to(l1, PTE_USER);
    l3[0] = pte_to(l2, PTE_USER);
    check(!page_protect(l1, false) && !page_protect(l2, false) &&
              !page_protect(l3, false),
          "tables become read-only", "refused");
    check_rc("put into the root, unpinned",
             mmu_write(pte_of((void *)NEW_VA, 4), pte_to(l3, PTE_USER),
                       MMU_NORMAL_PT_UPDATE),
             0);
    PROBE_OP("movq $0, %0", : "=m"(l1[3]) :);
    check(!caught.taken, "mov to an L1 that is linked, not pinned",
          "vector %u error 0x%lx", caught.vector, caught.error);
    PROBE_OP("movb $'x', 3(%0)", : : "r"(at));
    check(!caught.taken, "mapped", "vector %u error 0x%lx", caught.vector,
          caught.error);
    check_eq("both views agree", red[3], 'x');
    check_rc("a second entry",
             mmu_write(&l1[1], pte_to(green, PTE_KERNEL), MMU_NORMAL_PT_UPDATE),
             0);
    PROBE_OP("movb $'y', 3(%0)", : : "r"(at + PAGE_SIZE));
    check(!caught.taken && green[3] == 'y', "mapped as well",
          "vector %u error 0x%lx", caught.vector, caught.error);
}

/* Xen completes stores to L1 tables that are mapped read-only. */
static void test_writable_tables(void)
{
    volatile uint8_t *at = (volatile uint8_t *)NEW_VA + 2 * PAGE_SIZE;
    uint64_t value = pte_to(green, PTE_KERNEL), old = ~0UL;

    check_rc("pin the tables", pin(l3, 3), 0);
    PROBE_OP("movq %1, %0", : "=m"(l1[2]) : "r"(value));
    check(!caught.taken, "mov to a live L1 table", "vector %u error 0x%lx",
          caught.vector, caught.error);
    check_eq("it has arrived", l1[2] & PTE_ADDR, value & PTE_ADDR);
    PROBE_OP("movb $'z', (%0)", : : "r"(at));
    check(!caught.taken && green[0] == 'z', "and maps", "vector %u '%c'",
          caught.vector, green[0]);
    PROBE_OP("xchgq %0, %1", : "+r"(old), "+m"(l1[2]) :);
    check(!caught.taken && (old & PTE_ADDR) == (value & PTE_ADDR),
          "xchg with a live L1 entry", "vector %u old 0x%lx", caught.vector,
          old);
    PROBE_OP("movq $0, %0", : "=m"(l1[2]) :);
    mmuext(MMUEXT_INVLPG_LOCAL, (uint64_t)at, 0);
    PROBE_OP("movb $1, (%0)", : : "r"(at));
    check_trap("cleared and gone", X86_PF, PF_W);
    PROBE_OP("lock btsq $5, %0", : "+m"(l1[1]) :);
    check(!caught.taken, "locked read-modify-write", "vector %u",
          caught.vector);
    PROBE_OP("movq $-1, %0", : "=m"(red[0]) :);
    check(!caught.taken, "ordinary pages stay writable", "vector %u",
          caught.vector);
}

static bool write_works(uint64_t *entry)
{
    if (page_protect(entry, false))
        panic("page_protect");
    PROBE_OP("movq $0, %0", : "=m"(*entry) :);
    return !caught.taken;
}

static int64_t link(uint64_t *entry, const void *table)
{
    return mmu_write(entry, table ? pte_to(table, PTE_USER) : 0,
                     MMU_NORMAL_PT_UPDATE);
}

/*
 * A page that has been a table is none when the last entry that names it is
 * gone: then read-only is read-only again. l3 is linked and pinned.
 */
static void test_freed_tables(void)
{
    check_rc("link an L2 twice", link(&l3[1], l2), 0);
    check_rc("unlink it once", link(&l3[0], NULL), 0);
    check(write_works(&l1[5]), "its L1 is one still", "vector %u",
          caught.vector);
    check_rc("unpin the L3, which is linked", unpin(l3), 0);
    check(write_works(&l1[5]), "still", "vector %u", caught.vector);
    check_rc("unlink the L2", link(&l3[1], NULL), 0);
    check(!write_works(&l2[5]), "an L2 that was freed", "was written");
    check(!write_works(&l1[5]), "the L1 below it", "was written");
    check_rc("link it again", link(&l3[0], l2), 0);
    check(write_works(&l1[5]), "a table again", "vector %u", caught.vector);
    check_rc("unlink the L1 alone", link(&l2[0], NULL), 0);
    check(!write_works(&l1[5]), "none again", "was written");
    check_rc("all below the root", link(pte_of((void *)NEW_VA, 4), NULL), 0);
    check_rc("the L1 into the L2, which is not in use", link(&l2[0], l1), 0);
    check(!write_works(&l1[5]), "no table by that", "was written");
    check_rc("pin the L1", pin(l1, 1), 0);
    check(write_works(&l1[5]), "by that it is", "vector %u", caught.vector);
    check_rc("unpin it", unpin(l1), 0);
    check(!write_works(&l1[5]), "and is not", "was written");
}

void guest_main(void)
{
    memset(red, 'r', sizeof(red));
    memset(green, 'g', sizeof(green));
    test_update_va_mapping();
    test_mmu_update();
    test_devices();
    test_machphys();
    test_first_tables();
    test_new_tables();
    test_writable_tables();
    test_freed_tables();
}
