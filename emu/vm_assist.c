/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vm_assist: differences between guests that they ask for. */

#include "emu/emu.h"

/*
 * What Xen lets a 64-bit guest ask for (PV64_VM_ASSIST_MASK): some of it means
 * something to 32-bit ones alone, and writable page tables are how this
 * hypervisor always works.
 */
#define ASSISTS                               \
    (1UL << VMASST_TYPE_4gb_segments |        \
     1UL << VMASST_TYPE_4gb_segments_notify | \
     1UL << VMASST_TYPE_writable_pagetables | \
     1UL << VMASST_TYPE_pae_extended_cr3 |    \
     1UL << VMASST_TYPE_architectural_iopl |  \
     1UL << VMASST_TYPE_runstate_update_flag | 1UL << VMASST_TYPE_m2p_strict)

int64_t do_vm_assist(struct vcpu *v, guest_word cmd, guest_word type,
                     guest_word a3, guest_word a4, guest_word a5)
{
    /* Both are unsigned int. */
    type = (uint32_t)type;
    cmd = (uint32_t)cmd;
    if (type > VMASST_TYPE_m2p_strict || !(ASSISTS & 1UL << type))
        return -XEN_EINVAL;
    switch (cmd) {
    case VMASST_CMD_enable:
        __atomic_fetch_or(&emu_machine.vm_assist, 1UL << type,
                          __ATOMIC_SEQ_CST);
        return 0;
    case VMASST_CMD_disable:
        __atomic_fetch_and(&emu_machine.vm_assist, ~(1UL << type),
                           __ATOMIC_SEQ_CST);
        return 0;
    default:
        return -XEN_ENOSYS;
    }
}
