/* SPDX-License-Identifier: GPL-2.0-or-later */
/* memory_op: the map, reservations, giving pages back and taking them. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "memory";

static void test_map(void)
{
    struct e820entry {
        uint64_t addr, size;
        uint32_t type;
    } __attribute__((packed)) entries[16];
    struct xen_memory_map map = {.nr_entries = ARRAY_SIZE(entries)};
    uint64_t ram = 0;

    set_xen_guest_handle(map.buffer, (void *)entries);
    check_rc("memory_map", CALL(memory_op, XENMEM_memory_map, &map), 0);
    for (unsigned int i = 0; i < map.nr_entries; i++)
        ram += entries[i].type == 1 ? entries[i].size : 0;
    check(map.nr_entries >= 1 && ram >= start_info->nr_pages * PAGE_SIZE,
          "it covers the memory", "%u entries, 0x%lx bytes", map.nr_entries,
          ram);
    set_xen_guest_handle(map.buffer, BAD_POINTER);
    map.nr_entries = 16;
    check_rc("bad buffer", CALL(memory_op, XENMEM_memory_map, &map),
             -XEN_EFAULT);
    check_rc("bad argument", CALL(memory_op, XENMEM_memory_map, BAD_POINTER),
             -XEN_EFAULT);
}

static void test_reservations(void)
{
    domid_t self = DOMID_SELF;
    int64_t current = CALL(memory_op, XENMEM_current_reservation, &self);
    int64_t maximum = CALL(memory_op, XENMEM_maximum_reservation, &self);

    check(current == (int64_t)start_info->nr_pages, "current_reservation",
          "%ld, want %ld", (long)current, (long)start_info->nr_pages);
    check(maximum >= current, "maximum_reservation", "%ld", (long)maximum);
    check(CALL(memory_op, XENMEM_maximum_ram_page, 0) >= current,
          "maximum_ram_page", "too small");
}

static void test_machphys(void)
{
    struct xen_machphys_mapping map = {0};

    check_rc("machphys_mapping", CALL(memory_op, XENMEM_machphys_mapping, &map),
             0);
    check((uint64_t)map.v_end > (uint64_t)map.v_start &&
              map.max_mfn <= ((uint64_t)map.v_end - (uint64_t)map.v_start) / 8,
          "its range holds its entries", "0x%lx to 0x%lx, max_mfn 0x%lx",
          (uint64_t)map.v_start, (uint64_t)map.v_end, (uint64_t)map.max_mfn);
    check_eq("it is a machine-to-physical table",
             ((uint64_t *)map.v_start)[mfn_of(start_info)], pfn_of(start_info));
}

/* Of a page that was given back: it comes as it is, and the guest says which
 * of its own it is to be. */
static void check_increase(struct xen_memory_reservation *r, xen_pfn_t *frame,
                           void *page)
{
    uint64_t pfn = pfn_of(page), mfn = mfn_of(page);
    mmu_update_t place = {.val = pfn};
    domid_t self = DOMID_SELF;

    if (CALL(memory_op, XENMEM_current_reservation, &self) ==
        CALL(memory_op, XENMEM_maximum_reservation, &self))
        check_rc("increase_reservation: no more than the maximum",
                 CALL(memory_op, XENMEM_increase_reservation, r), 0);
    CALL(update_va_mapping, page, 0, UVMF_INVLPG | UVMF_LOCAL);
    *frame = mfn;
    check_rc("decrease_reservation, again",
             CALL(memory_op, XENMEM_decrease_reservation, r), 1);
    *frame = 0;
    check_rc("increase_reservation",
             CALL(memory_op, XENMEM_increase_reservation, r), 1);
    check(*frame != 0, "it has a machine page", "0x%lx", *frame);
    place.ptr = *frame << 12 | MMU_MACHPHYS_UPDATE;
    check_rc("which gets its place", CALL(mmu_update, &place, 1, 0, DOMID_SELF),
             0);
    check_eq("m2p", m2p[*frame], pfn);
    ((uint64_t *)start_info->mfn_list)[pfn] = *frame;
    check_rc("it can be mapped",
             CALL(update_va_mapping, page, *frame * PAGE_SIZE | PTE_KERNEL,
                  UVMF_INVLPG | UVMF_LOCAL),
             0);
}

/* What is wrong with a call is not said: nothing is done. */
static void test_bad_reservations(void)
{
    static const unsigned int ops[] = {XENMEM_increase_reservation,
                                       XENMEM_decrease_reservation,
                                       XENMEM_populate_physmap};

    for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
        struct xen_memory_reservation r = {.nr_extents = 1,
                                           .domid = DOMID_SELF};

        check_rc("bad pointer", CALL(memory_op, ops[i], BAD_POINTER), 0);
        set_xen_guest_handle(r.extent_start, BAD_POINTER);
        check_rc("extents at one", CALL(memory_op, ops[i], &r), 0);
        r.extent_order = 10;
        check_rc("too large a piece", CALL(memory_op, ops[i], &r), 0);
        r.extent_order = 0;
        r.domid = 4711;
        check_rc("another domain", CALL(memory_op, ops[i], &r), 0);
        check_rc("behind the last", CALL(memory_op, ops[i] | 5 << 6, &r), 5);
    }
    check_rc("what is not done in parts",
             CALL(memory_op, XENMEM_maximum_ram_page | 1 << 6, 0), -XEN_EINVAL);
}

static void test_bad_exchanges(void)
{
    xen_pfn_t in = 0xfffffff, out = 1;
    struct xen_memory_exchange e = {
        .in = {.nr_extents = 1, .domid = DOMID_SELF},
        .out = {.nr_extents = 1, .domid = DOMID_SELF},
        .nr_exchanged = 0};

    set_xen_guest_handle(e.in.extent_start, &in);
    set_xen_guest_handle(e.out.extent_start, &out);
    check_rc("exchange of no page", CALL(memory_op, XENMEM_exchange, &e),
             -XEN_EINVAL);
    check_eq("none exchanged", e.nr_exchanged, 0);
    e.nr_exchanged = 1;
    check_rc("all done before", CALL(memory_op, XENMEM_exchange, &e), 0);
    e.nr_exchanged = 2;
    check_rc("more than all", CALL(memory_op, XENMEM_exchange, &e),
             -XEN_EINVAL);
    e.nr_exchanged = 0;
    e.out.nr_extents = 2;
    check_rc("one for two", CALL(memory_op, XENMEM_exchange, &e), -XEN_EINVAL);
    e.out.nr_extents = 1;
    e.out.extent_order = 10;
    check_rc("for a piece that is too large",
             CALL(memory_op, XENMEM_exchange, &e), -XEN_EPERM);
    check_rc("at a bad pointer", CALL(memory_op, XENMEM_exchange, BAD_POINTER),
             -XEN_EFAULT);
}

/* Balloon out and in again: a page of ours that nothing maps. */
static void test_balloon(void)
{
    static uint8_t page[PAGE_SIZE] PAGE_ALIGNED;
    uint64_t pfn = pfn_of(page), mfn = mfn_of(page);
    uint64_t *p2m = (uint64_t *)start_info->mfn_list;
    domid_t self = DOMID_SELF;
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};
    xen_pfn_t frame = mfn;
    int64_t before = CALL(memory_op, XENMEM_current_reservation, &self);

    set_xen_guest_handle(r.extent_start, &frame);
    if (CALL(update_va_mapping, page, 0, UVMF_INVLPG | UVMF_LOCAL))
        panic("page cannot be unmapped");
    check_rc("decrease_reservation",
             CALL(memory_op, XENMEM_decrease_reservation, &r), 1);
    check_eq("a page less",
             (uint64_t)CALL(memory_op, XENMEM_current_reservation, &self),
             (uint64_t)before - 1);
    frame = pfn;
    check_rc("populate_physmap", CALL(memory_op, XENMEM_populate_physmap, &r),
             1);
    check_eq("as many as before",
             (uint64_t)CALL(memory_op, XENMEM_current_reservation, &self),
             (uint64_t)before);
    check_eq("m2p of the new page", m2p[frame], pfn);
    p2m[pfn] = frame;
    check_rc("it can be mapped",
             CALL(update_va_mapping, page, frame * PAGE_SIZE | PTE_KERNEL,
                  UVMF_INVLPG | UVMF_LOCAL),
             0);
    PROBE_OP("movb $1, (%0)", : : "r"(page));
    check(!caught.taken, "and written", "vector %u", caught.vector);
    frame = pfn;
    check_rc("no more than the maximum",
             CALL(memory_op, XENMEM_populate_physmap, &r), 0);
    check_increase(&r, &frame, page);
    frame = 0xfffffff;
    check_rc("a page that is not there",
             CALL(memory_op, XENMEM_decrease_reservation, &r), 0);
    frame = 3;
    check_rc("a page of Xen's",
             CALL(memory_op, XENMEM_decrease_reservation, &r), 0);
}

/* What a domain may have beyond what it starts with: no page is there yet, and
 * the first that is asked for is its own. */
static void test_more(void)
{
    domid_t self = DOMID_SELF;
    int64_t maximum = CALL(memory_op, XENMEM_maximum_reservation, &self);
    uint64_t first = start_info->nr_pages, last = (uint64_t)maximum - 1;
    struct xen_memory_reservation r = {.nr_extents = 2, .domid = DOMID_SELF};
    xen_pfn_t frames[3] = {first, last, last + 1};
    static uint8_t page[PAGE_SIZE] PAGE_ALIGNED;
    uint64_t before = mfn_of(page);

    if (maximum == (int64_t)first) {
        skip("more memory than at the start", "it can have no more");
        return;
    }
    set_xen_guest_handle(r.extent_start, frames);
    check_rc("populate_physmap beyond the start",
             CALL(memory_op, XENMEM_populate_physmap, &r), 2);
    check_eq("m2p of the first", m2p[frames[0]], first);
    check_eq("m2p of the last", m2p[frames[1]], last);
    check_eq("two pages more",
             (uint64_t)CALL(memory_op, XENMEM_current_reservation, &self),
             first + 2);
    for (unsigned int i = 0; i < 2; i++) {
        check_rc("it can be mapped",
                 CALL(update_va_mapping, page,
                      frames[i] * PAGE_SIZE | PTE_KERNEL,
                      UVMF_INVLPG | UVMF_LOCAL),
                 0);
        PROBE_OP("movb $1, (%0)", : : "r"(page));
        check(!caught.taken && page[0] == 1 && !page[1], "and written",
              "vector %u", caught.vector);
    }
    if (CALL(update_va_mapping, page, before * PAGE_SIZE | PTE_KERNEL,
             UVMF_INVLPG | UVMF_LOCAL))
        panic("page cannot be mapped again");
    set_xen_guest_handle(r.extent_start, frames + 2);
    r.nr_extents = 1;
    check_rc("a page beyond the last",
             CALL(memory_op, XENMEM_populate_physmap, &r), 0);
    set_xen_guest_handle(r.extent_start, frames);
    r.nr_extents = 2;
    check_rc("and given back", CALL(memory_op, XENMEM_decrease_reservation, &r),
             2);
}

static void test_exchange(void)
{
    static uint8_t page[PAGE_SIZE] PAGE_ALIGNED;
    uint64_t *p2m = (uint64_t *)start_info->mfn_list;
    xen_pfn_t in = mfn_of(page), out = pfn_of(page);
    struct xen_memory_exchange e = {
        .in = {.nr_extents = 1, .domid = DOMID_SELF},
        .out = {.nr_extents = 1, .domid = DOMID_SELF}};
    int64_t rc;

    set_xen_guest_handle(e.in.extent_start, &in);
    set_xen_guest_handle(e.out.extent_start, &out);
    if (CALL(update_va_mapping, page, 0, UVMF_INVLPG | UVMF_LOCAL))
        panic("page cannot be unmapped");
    rc = CALL(memory_op, XENMEM_exchange, &e);
    check_rc("exchange", rc, 0);
    if (rc)
        return;
    check_eq("one exchanged", e.nr_exchanged, 1);
    p2m[pfn_of(page)] = out;
    check_eq("m2p of the new page", m2p[out], pfn_of(page));
    check_rc("it can be mapped",
             CALL(update_va_mapping, page, out * PAGE_SIZE | PTE_KERNEL,
                  UVMF_INVLPG | UVMF_LOCAL),
             0);
    PROBE_OP("movb $1, (%0)", : : "r"(page));
    check(!caught.taken, "and written", "vector %u", caught.vector);
}

static void test_bad_pointers(void)
{
    static const unsigned int ops[] = {
        XENMEM_current_reservation,  XENMEM_maximum_reservation,
        XENMEM_decrease_reservation, XENMEM_increase_reservation,
        XENMEM_populate_physmap,     XENMEM_exchange,
        XENMEM_machphys_mapping,     XENMEM_machphys_mfn_list,
        XENMEM_add_to_physmap};

    for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++)
        check(CALL(memory_op, ops[i], BAD_POINTER) <= 0,
              "argument at a bad pointer", "op %u is positive", ops[i]);
}

void guest_main(void)
{
    test_map();
    test_reservations();
    test_machphys();
    test_balloon();
    test_more();
    test_exchange();
    test_bad_reservations();
    test_bad_exchanges();
    test_bad_pointers();
}
