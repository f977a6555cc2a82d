/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every hypercall with every argument in turn a bad pointer or a wild number.
 * Whatever comes back, the guest lives on and its memory is as before.
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "bad_pointers";

static const uint64_t wild[] = {
    0,
    1,
    7,
    0xfff,
    0x00005ead00000000,
    0x00007ffffffffff8,
    0x0000800000000000,
    0xdead000000000000,
    0xffff7fffffffffff,
    0xffff800000000000,
    0xffff808000010000,
    0xffff808000300000,
    0xffff810000000000,
    0xffff818000000000,
    0xffff87fffffffff8,
    0xfffffffffffffff8,
    ~0UL,
    0x7fffffff,
    0xffffffff,
    0x80000000,
};

/* Calls that end or block the guest when taken at their word, or that
 * replace what the test stands on. */
static bool is_harmless(uint64_t nr, uint64_t sub)
{
    switch (nr) {
    case __HYPERVISOR_iret:
    case __HYPERVISOR_sched_op_compat:
    case __HYPERVISOR_set_callbacks:
    case __HYPERVISOR_stack_switch:
    case __HYPERVISOR_set_trap_table:
        return false;
    case __HYPERVISOR_sched_op:
        return sub == SCHEDOP_yield || sub >= SCHEDOP_remote_shutdown;
    case __HYPERVISOR_vcpu_op:
        return sub != VCPUOP_down;
    case __HYPERVISOR_memory_op:
        return sub < 100;
    case __HYPERVISOR_event_channel_op:
        return sub != EVTCHNOP_reset && sub != EVTCHNOP_close;
    default:
        return true;
    }
}

static void try_all(uint64_t nr)
{
    for (unsigned int sub = 0; sub < 32; sub++) {
        if (!is_harmless(nr, sub))
            continue;
        for (unsigned int i = 0; i < ARRAY_SIZE(wild); i++) {
            hypercall(nr, sub, wild[i], 0, 0, 0);
            hypercall(nr, sub, 0, wild[i], 0, 0);
            hypercall(nr, wild[i], 1, 0, DOMID_SELF, 0);
        }
    }
}

static uint64_t sum_of_text(void)
{
    uint64_t sum = 0;

    for (const uint64_t *at = (uint64_t *)image_start;
         at < (uint64_t *)user_page_text; at++)
        sum = sum * 31 + *at;
    return sum;
}

void guest_main(void)
{
    static const uint64_t numbers[] = {__HYPERVISOR_mmu_update,
                                       __HYPERVISOR_set_gdt,
                                       __HYPERVISOR_update_descriptor,
                                       __HYPERVISOR_memory_op,
                                       __HYPERVISOR_multicall,
                                       __HYPERVISOR_xen_version,
                                       __HYPERVISOR_grant_table_op,
                                       __HYPERVISOR_vm_assist,
                                       __HYPERVISOR_vcpu_op,
                                       __HYPERVISOR_mmuext_op,
                                       __HYPERVISOR_sched_op,
                                       __HYPERVISOR_callback_op,
                                       __HYPERVISOR_event_channel_op,
                                       __HYPERVISOR_physdev_op,
                                       __HYPERVISOR_set_debugreg,
                                       __HYPERVISOR_get_debugreg,
                                       __HYPERVISOR_set_timer_op,
                                       __HYPERVISOR_set_segment_base,
                                       __HYPERVISOR_nmi_op,
                                       __HYPERVISOR_fpu_taskswitch};
    uint64_t before = sum_of_text();

    for (unsigned int i = 0; i < ARRAY_SIZE(numbers); i++) {
        try_all(numbers[i]);
        CALL(fpu_taskswitch, 0);
        check(CALL(xen_version, XENVER_pagesize, 0) == PAGE_SIZE,
              "alive after wild arguments", "call %lu", numbers[i]);
    }
    for (unsigned int i = 0; i < ARRAY_SIZE(wild); i++)
        CALL(console_io, CONSOLEIO_write, 8, wild[i]);
    check_eq("the text is untouched", sum_of_text(), before);
    CALL(set_trap_table, trap_table);
    PROBE("ud2");
    check_trap("traps work", X86_UD, 0);
}
