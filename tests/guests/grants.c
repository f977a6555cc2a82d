/* SPDX-License-Identifier: GPL-2.0-or-later */
/* grant_table_op: the table, its size and version, copies within the domain. */
#include "tests/guests/lib/guest.h"

#include <xen/grant_table.h>

const char guest_name[] = "grants";

#define MAX_FRAMES 64
#define REF 8 /* the first that the tools leave to the guest */

static uint8_t window[PAGE_SIZE] PAGE_ALIGNED;
static uint8_t from[PAGE_SIZE] PAGE_ALIGNED, to[PAGE_SIZE] PAGE_ALIGNED;
static volatile struct grant_entry_v1 *table = (void *)window;

static void test_size(void)
{
    struct gnttab_query_size size = {.dom = DOMID_SELF, .status = 99};

    check_rc("query_size", CALL(grant_table_op, GNTTABOP_query_size, &size, 1),
             0);
    check(size.status == GNTST_okay && size.nr_frames >= 1 &&
              size.max_nr_frames >= size.nr_frames,
          "its numbers", "status %d, %u of %u frames", size.status,
          size.nr_frames, size.max_nr_frames);
    size.dom = 4711;
    check_rc("another domain's",
             CALL(grant_table_op, GNTTABOP_query_size, &size, 1), 0);
    check_eq("is not known", (uint64_t)-size.status, -GNTST_bad_domain);
    check_rc("two at a time",
             CALL(grant_table_op, GNTTABOP_query_size, &size, 2), -XEN_EINVAL);
}

static void test_version(void)
{
    struct gnttab_get_version get = {.dom = DOMID_SELF};
    struct gnttab_set_version set = {.version = 2};

    check_rc("get_version", CALL(grant_table_op, GNTTABOP_get_version, &get, 1),
             0);
    check_eq("it is 1", get.version, 1);
    check_rc("version 2 is refused",
             CALL(grant_table_op, GNTTABOP_set_version, &set, 1), -XEN_ENOSYS);
    set.version = 3;
    check_rc("so is 3", CALL(grant_table_op, GNTTABOP_set_version, &set, 1),
             -XEN_EINVAL);
    set.version = 1;
    check_rc("1 is not", CALL(grant_table_op, GNTTABOP_set_version, &set, 1),
             0);
}

/* Returns whether window shows the table's first frame now. */
static bool test_setup(void)
{
    static xen_pfn_t frames[MAX_FRAMES + 1];
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 2};

    set_xen_guest_handle(setup.frame_list, frames);
    check_rc("setup_table",
             CALL(grant_table_op, GNTTABOP_setup_table, &setup, 1), 0);
    check_eq("its status", (uint64_t)setup.status, GNTST_okay);
    check(frames[0] && frames[1] == frames[0] + 1 && !frames[2],
          "two frames are named", "0x%lx 0x%lx 0x%lx", (long)frames[0],
          (long)frames[1], (long)frames[2]);
    setup.nr_frames = MAX_FRAMES + 1;
    CALL(grant_table_op, GNTTABOP_setup_table, &setup, 1);
    check_eq("too many frames", (uint64_t)-setup.status, -GNTST_general_error);
    setup.nr_frames = 1;
    set_xen_guest_handle(setup.frame_list, BAD_POINTER);
    CALL(grant_table_op, GNTTABOP_setup_table, &setup, 1);
    check_eq("a bad list", (uint64_t)-setup.status, -GNTST_bad_virt_addr);
    check_rc("a bad argument",
             CALL(grant_table_op, GNTTABOP_setup_table, BAD_POINTER, 1),
             -XEN_EFAULT);
    check_rc("it can be mapped",
             CALL(update_va_mapping, window, frames[0] * PAGE_SIZE | PTE_KERNEL,
                  UVMF_INVLPG | UVMF_LOCAL),
             0);
    PROBE_OP("testb $0, (%0)", : : "r"(window));
    check(!caught.taken, "and read", "vector %u", caught.vector);
    return !caught.taken;
}

/* What the tools grant to domain 0 before the start. */
static void test_reserved(void)
{
    check(table[GNTTAB_RESERVED_CONSOLE].flags == GTF_permit_access &&
              table[GNTTAB_RESERVED_CONSOLE].domid == 0 &&
              table[GNTTAB_RESERVED_CONSOLE].frame ==
                  start_info->console.domU.mfn,
          "the console's page is granted", "flags 0x%x, frame 0x%x",
          table[GNTTAB_RESERVED_CONSOLE].flags,
          table[GNTTAB_RESERVED_CONSOLE].frame);
}

static domid_t own_domid(void)
{
    /* An unbound port's status names the domain that may bind it. */
    struct evtchn_alloc_unbound alloc = {.dom = DOMID_SELF,
                                         .remote_dom = DOMID_SELF};
    struct evtchn_status status = {.dom = DOMID_SELF};

    CALL(event_channel_op, EVTCHNOP_alloc_unbound, &alloc);
    status.port = alloc.port;
    CALL(event_channel_op, EVTCHNOP_status, &status);
    evtchn_close(alloc.port);
    return status.u.unbound.dom;
}

static void grant(unsigned int ref, const void *page, uint16_t flags)
{
    table[ref].domid = own_domid();
    table[ref].frame = (uint32_t)mfn_of(page);
    table[ref].flags = flags;
}

static int16_t copy(struct gnttab_copy op)
{
    op.status = 99;
    if (CALL(grant_table_op, GNTTABOP_copy, &op, 1))
        return 98;
    return op.status;
}

static void check_status(const char *name, int16_t got, int16_t want)
{
    check(got == want, name, "status %d, want %d", got, want);
}

static void test_copy(void)
{
    struct gnttab_copy op = {
        .source = {.u.gmfn = mfn_of(from), .domid = DOMID_SELF, .offset = 100},
        .dest = {.u.gmfn = mfn_of(to), .domid = DOMID_SELF, .offset = 4000},
        .len = 96};

    for (unsigned int i = 0; i < PAGE_SIZE; i++)
        from[i] = (uint8_t)(i * 7);
    check_status("copy by frame", copy(op), GNTST_okay);
    check(!memcmp(to + 4000, from + 100, 96) && !to[3999], "what and where",
          "0x%x 0x%x", to[3999], to[4000]);
    op.len = 97;
    check_status("past the page's end", copy(op), GNTST_bad_copy_arg);
    op.len = 8;
    op.dest.u.gmfn = 3;
    check_status("to a page of Xen's", copy(op), GNTST_bad_page);
    op.dest.u.gmfn = ~0UL >> 12;
    check_status("to no page", copy(op), GNTST_bad_page);
    op.dest.u.gmfn = mfn_of(to);
    op.dest.domid = 4711;
    check_status("to another domain", copy(op), GNTST_bad_domain);
    check_rc("a bad list", CALL(grant_table_op, GNTTABOP_copy, BAD_POINTER, 1),
             -XEN_EFAULT);
    check_rc("none", CALL(grant_table_op, GNTTABOP_copy, BAD_POINTER, 0), 0);
}

static void test_copy_by_grant(void)
{
    struct gnttab_copy op = {.source = {.u.ref = REF, .domid = own_domid()},
                             .dest = {.u.ref = REF + 1, .domid = own_domid()},
                             .len = PAGE_SIZE,
                             .flags = GNTCOPY_source_gref | GNTCOPY_dest_gref};

    grant(REF, from, GTF_permit_access | GTF_readonly);
    grant(REF + 1, to, GTF_permit_access);
    check_status("copy by grant", copy(op), GNTST_okay);
    check(!memcmp(to, from, PAGE_SIZE), "the whole page", "differs");
    check(table[REF].flags == (GTF_permit_access | GTF_readonly) &&
              table[REF + 1].flags == GTF_permit_access,
          "no use stays marked", "flags 0x%x 0x%x", table[REF].flags,
          table[REF + 1].flags);
    op.dest.u.ref = REF;
    check_status("write by a read-only grant", copy(op), GNTST_general_error);
    op.dest.u.ref = REF + 2;
    check_status("an invalid grant", copy(op), GNTST_general_error);
    op.dest.u.ref = ~0U;
    check_status("no grant", copy(op), GNTST_bad_gntref);
    op.dest.u.ref = REF + 1;
    table[REF + 1].frame = 3;
    check_status("a grant of Xen's page", copy(op), GNTST_bad_page);
    table[REF + 1].domid = 4711;
    check_status("a grant to another", copy(op), GNTST_general_error);
    check(table[REF].flags == (GTF_permit_access | GTF_readonly),
          "and nothing stays marked", "flags 0x%x", table[REF].flags);
}

void guest_main(void)
{
    struct gnttab_query_size size = {.dom = DOMID_SELF};

    test_size();
    test_version();
    if (test_setup()) {
        test_reserved();
        test_copy();
        test_copy_by_grant();
    }
    check_rc("an unknown operation",
             CALL(grant_table_op, GNTTABOP_dump_table, &size, 1), -XEN_ENOSYS);
}
