/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the domain builder promises (xen/xen.h, "Boot-time layout"): addresses,
 * contents of start_info, the lists, the page tables, the first registers.
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "start_of_day";

static bool within(const void *p, uint64_t bytes)
{
    uint64_t at = (uint64_t)p - virt_base;

    return at / PAGE_SIZE + (bytes + PAGE_SIZE - 1) / PAGE_SIZE <=
           start_info->nr_pages;
}

static void test_start_info(void)
{
    check(
        starts_with(start_info->magic, "xen-3.") &&
            streq(start_info->magic + strlen(start_info->magic) - 7, "-x86_64"),
        "magic", "reads '%s'", start_info->magic);
    check((uint64_t)start_info % PAGE_SIZE == 0, "start_info page-aligned",
          "at %p", (void *)start_info);
    check((uint8_t *)start_info >= image_end, "start_info behind the image",
          "at %p, image ends at %p", (void *)start_info, (void *)image_end);
    check_eq("nr_pages", start_info->nr_pages, 32 << 8);
    check_eq("flags: not privileged, not dom0", start_info->flags & 3, 0);
    check(start_info->shared_info % PAGE_SIZE == 0 && start_info->shared_info,
          "shared_info is a machine page", "0x%lx", start_info->shared_info);
    check(start_info->console.domU.mfn && start_info->console.domU.evtchn,
          "console page and port", "mfn 0x%lx port %u",
          start_info->console.domU.mfn, start_info->console.domU.evtchn);
    check(cmdline_has("first") && cmdline_has("last=\"x"), "command line",
          "reads '%s'", (const char *)start_info->cmd_line);
    check_eq("DF and TF clear, rsp 16-byte aligned or 8 below", boot_rsp % 8,
             0);
}

static void test_initrd(void)
{
    const uint8_t *bytes = (const uint8_t *)start_info->mod_start;
    uint64_t sum = 0, pfn;

    check_eq("initrd length", start_info->mod_len, 10001);
    if (start_info->flags & SIF_MOD_START_PFN) {
        pfn = start_info->mod_start;
        check(pfn < start_info->nr_pages, "initrd pfn", "0x%lx", pfn);
        for (unsigned int i = 0; i < 3; i++) {
            /* Borrow a page of ours to look at each page of it. */
            static uint8_t window[PAGE_SIZE] PAGE_ALIGNED;
            uint64_t mfn = ((uint64_t *)start_info->mfn_list)[pfn + i];

            if (CALL(update_va_mapping, window, mfn * PAGE_SIZE | PTE_P | PTE_A,
                     UVMF_INVLPG))
                panic("initrd page cannot be mapped");
            for (unsigned int j = 0;
                 j < PAGE_SIZE && i * PAGE_SIZE + j < start_info->mod_len; j++)
                sum += window[j] * (1 + (i * PAGE_SIZE + j) % 7);
        }
    } else {
        check((uint64_t)bytes % PAGE_SIZE == 0 && within(bytes, 10001),
              "initrd mapped and page-aligned", "at %p", (const void *)bytes);
        for (uint64_t i = 0; i < start_info->mod_len; i++)
            sum += bytes[i] * (1 + i % 7);
    }
    /* The test's initrd: byte i is (i * 31 + 7) mod 256. */
    uint64_t want = 0;
    for (uint64_t i = 0; i < 10001; i++)
        want += (i * 31 + 7) % 256 * (1 + i % 7);
    check_eq("initrd contents", sum, want);
}

static void test_p2m(void)
{
    const uint64_t *p2m = (const uint64_t *)start_info->mfn_list;
    uint64_t wrong = 0, duplicate = 0, n = start_info->nr_pages;

    for (uint64_t pfn = 0; pfn < n; pfn++) {
        wrong += m2p[p2m[pfn]] != pfn;
        duplicate += pfn && p2m[pfn] == p2m[pfn - 1];
    }
    check_eq("m2p[p2m[pfn]] == pfn for all pages", wrong, 0);
    check_eq("no machine page twice", duplicate, 0);
    PROBE_OP("movq %0, (%1)", : : "r"(m2p[p2m[5]]), "r"(&m2p[p2m[5]]));
    check(caught.taken && caught.vector == X86_PF, "m2p is read-only",
          "vector %u taken %d", caught.vector, caught.taken);
}

static void test_mappings(void)
{
    uint64_t end = start_info->pt_base + start_info->nr_pt_frames * PAGE_SIZE;
    uint64_t wrong = 0, last, unreadable = 0, byte;
    volatile uint8_t *at;

    check((uint64_t)start_info->pt_base % PAGE_SIZE == 0, "pt_base aligned",
          "0x%lx", start_info->pt_base);
    /* The stack page follows the tables; 512 KiB of padding behind it. */
    last = end + PAGE_SIZE + 0x80000;
    for (at = (void *)start_info; (uint64_t)at < last; at += PAGE_SIZE) {
        PROBE_OP("movb (%1), %b0", : "=&q"(byte) : "r"(at));
        unreadable += caught.taken;
        if (!caught.taken) {
            uint64_t pte = *pte_of((void *)at, 1);

            wrong += (pte & PTE_ADDR) / PAGE_SIZE != mfn_of((void *)at);
        }
    }
    check_eq("start_info up to the padding is mapped", unreadable, 0);
    check_eq("and mapped linearly", wrong, 0);
    wrong = 0;
    for (at = (void *)start_info->pt_base; (uint64_t)at < end; at += PAGE_SIZE)
        wrong += (*pte_of((void *)at, 1) & PTE_RW) != 0;
    check_eq("page tables are mapped read-only", wrong, 0);
    check(boot_rsp > end && boot_rsp <= end + PAGE_SIZE,
          "stack: one page behind the page tables",
          "rsp 0x%lx, tables end 0x%lx", boot_rsp, end);
    check_eq("root table is kept under pt_base",
             (*pte_of((void *)start_info->pt_base, 1) & PTE_ADDR) / PAGE_SIZE,
             mfn_of((void *)start_info->pt_base));
}

static void test_shared_info(void)
{
    check_eq("upcalls are masked at start", vcpu_info()->evtchn_upcall_mask, 1);
    check(shared->wc_sec > 1700000000, "wall clock is set", "wc_sec %u",
          shared->wc_sec);
    check(vcpu_info()->time.tsc_to_system_mul != 0, "time info is filled",
          "mul is 0");
    check_eq("max_pfn is left to the guest", shared->arch.max_pfn, 0);
}

void guest_main(void)
{
    test_start_info();
    test_initrd();
    test_p2m();
    test_mappings();
    test_shared_info();
}
