/* SPDX-License-Identifier: GPL-2.0-or-later */
/* multicall: a result for each entry, errors included. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "multicall";

static uint8_t red[PAGE_SIZE] PAGE_ALIGNED;
static volatile uint8_t window[PAGE_SIZE] PAGE_ALIGNED;

void guest_main(void)
{
    static multicall_entry_t calls[6], many[100];
    struct mmuext_op flush = {.cmd = MMUEXT_TLB_FLUSH_LOCAL};
    unsigned int wrong = 0;

    red[3] = 'r';
    calls[0].op = __HYPERVISOR_xen_version;
    calls[0].args[0] = XENVER_pagesize;
    calls[1].op = 63;
    calls[2].op = __HYPERVISOR_xen_version;
    calls[2].args[0] = XENVER_extraversion;
    calls[2].args[1] = (uint64_t)BAD_POINTER;
    calls[3].op = __HYPERVISOR_update_va_mapping;
    calls[3].args[0] = (uint64_t)window;
    calls[3].args[1] = maddr_of(red) | PTE_KERNEL;
    calls[4].op = __HYPERVISOR_mmuext_op;
    calls[4].args[0] = (uint64_t)&flush;
    calls[4].args[1] = 1;
    calls[4].args[3] = DOMID_SELF;
    calls[5].op = __HYPERVISOR_multicall;
    calls[5].args[0] = (uint64_t)many;
    calls[5].args[1] = 1;
    many[0].op = __HYPERVISOR_xen_version;
    many[0].args[0] = XENVER_pagesize;
    many[0].result = 4711;

    check_rc("multicall", CALL(multicall, calls, 6), 0);
    check_eq("result of a good call", calls[0].result, PAGE_SIZE);
    check_rc("of an unknown one", (int64_t)calls[1].result, -XEN_ENOSYS);
    check_rc("of one with a bad pointer", (int64_t)calls[2].result,
             -XEN_EFAULT);
    check_rc("of update_va_mapping", (int64_t)calls[3].result, 0);
    check_rc("of mmuext_op", (int64_t)calls[4].result, 0);
    check_eq("the mapping is there", window[3], 'r');
    check_rc("a multicall inside is refused", (int64_t)calls[5].result,
             -XEN_EINVAL);
    check_eq("and not carried out", many[0].result, 4711);
    check_rc("again, after the nested one", CALL(multicall, calls, 1), 0);
    check_rc("none", CALL(multicall, calls, 0), 0);
    check_rc("bad pointer", CALL(multicall, BAD_POINTER, 2), -XEN_EFAULT);
    for (unsigned int i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = (multicall_entry_t){.op = __HYPERVISOR_xen_version,
                                      .args = {XENVER_pagesize}};
    check_rc("a hundred", CALL(multicall, many, ARRAY_SIZE(many)), 0);
    for (unsigned int i = 0; i < ARRAY_SIZE(many); i++)
        wrong += many[i].result != PAGE_SIZE;
    check_eq("all done", wrong, 0);
}
