/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hypercall table: number -> name -> handler. */
#include "emu/emu.h"

#define H(nr, name) [__HYPERVISOR_##nr] = do_##name

static hypercall_fn *const table[EMU_NR_HYPERCALLS] = {
    H(set_trap_table, set_trap_table), H(mmu_update, mmu_update),
    H(set_gdt, set_gdt), H(stack_switch, stack_switch),
    H(set_callbacks, set_callbacks), H(fpu_taskswitch, fpu_taskswitch),
    H(sched_op_compat, sched_op_compat), H(set_debugreg, set_debugreg),
    H(get_debugreg, get_debugreg), H(update_descriptor, update_descriptor),
    H(memory_op, memory_op), H(multicall, multicall),
    H(update_va_mapping, update_va_mapping), H(set_timer_op, set_timer_op),
    H(event_channel_op_compat, event_channel_op_compat),
    H(xen_version, xen_version), H(console_io, console_io),
    H(physdev_op_compat, physdev_op_compat), H(grant_table_op, grant_table_op),
    H(vm_assist, vm_assist),
    H(update_va_mapping_otherdomain, update_va_mapping_otherdomain),
    H(iret, iret), H(vcpu_op, vcpu_op), H(set_segment_base, set_segment_base),
    H(mmuext_op, mmuext_op), H(nmi_op, nmi_op), H(sched_op, sched_op),
    H(callback_op, callback_op), H(event_channel_op, event_channel_op),
    H(physdev_op, physdev_op),
    /* For domain 0, for device models: refused. */
    H(platform_op, platform_op), H(hvm_op, hvm_op), H(sysctl, sysctl),
    H(domctl, domctl), H(kexec_op, refused), H(xenpmu_op, xenpmu_op),
    H(dm_op, dm_op), H(hypfs_op, refused), H(arch_0, refused), /* mca */
};

int64_t hypercall(struct vcpu *v, guest_word nr, guest_word a1, guest_word a2,
                  guest_word a3, guest_word a4, guest_word a5)
{
    int64_t result;
    uint32_t entry;

    entry = trace(v, EMU_TRACE_HYPERCALL, (uint32_t)nr, guest_frame(v)->rip, a1,
                  a2);
    if (nr >= ARRAY_SIZE(table) || !table[nr]) {
        v->pub.counters.hypercall_unknown++;
        result = -XEN_ENOSYS;
    } else {
        v->pub.counters.hypercall[nr]++;
        result = table[nr](v, a1, a2, a3, a4, a5);
    }
    trace_result(v, entry, (uint64_t)result);
    return result;
}

int64_t do_multicall(struct vcpu *v, guest_word list, guest_word count,
                     guest_word a3, guest_word a4, guest_word a5)
{
    for (uint64_t i = 0; i < (uint32_t)count; i++) {
        uint64_t at = list + i * sizeof(multicall_entry_t);
        multicall_entry_t c;
        int rc;

        if (copy_from_guest(&c, at, sizeof(c)))
            return -XEN_EFAULT;
        if (c.op == __HYPERVISOR_multicall)
            c.result = (xen_ulong_t)-XEN_EINVAL;
        else
            c.result = (xen_ulong_t)hypercall(v, c.op, c.args[0], c.args[1],
                                              c.args[2], c.args[3], c.args[4]);
        rc = copy_to_guest(at + offsetof(multicall_entry_t, result), &c.result,
                           sizeof(c.result));
        /* The rest of the list is another frame's: iret's result is what the
         * guest has in rax where it goes on. */
        if (c.op == __HYPERVISOR_iret)
            return (int64_t)c.result;
        if (rc)
            return rc;
    }
    return 0;
}
