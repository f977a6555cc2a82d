/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HYPERVISOR_iret, and what happens when the hardware refuses the frame. */
#include "emu/emu.h"

int64_t do_iret(struct vcpu *v, guest_word a1, guest_word a2, guest_word a3,
                guest_word a4, guest_word a5)
{
    struct emu_frame *f = guest_frame(v);
    struct iret_context c;

    if (copy_from_guest(&c, f->rsp, sizeof(c)))
        crash_domain("iret: no frame on the guest kernel's stack");
    if ((c.cs & 3) == 3) {
        enter_user_mode(v);
        v->pub.counters.iret++;
    }
    if (emu_machine.vm_assist & 1UL << VMASST_TYPE_architectural_iopl)
        v->iopl = (uint32_t)(c.rflags & RFLAGS_IOPL) >> 12;
    f->rip = c.rip;
    f->cs = (c.cs & 0xffff) | 3;
    f->rflags = (c.rflags & RFLAGS_DEFINED & ~(RFLAGS_IOPL | RFLAGS_VM)) |
                RFLAGS_IF | RFLAGS_FIXED;
    f->rsp = c.rsp;
    f->ss = (c.ss & 0xffff) | 3;
    if (!(c.flags & VGCF_in_syscall)) {
        f->r11 = c.r11;
        f->rcx = c.rcx;
    } else {
        f->r11 = f->rflags;
        f->rcx = f->rip;
    }
    v->info->evtchn_upcall_mask = !(c.rflags & RFLAGS_IF);
    return (int64_t)c.rax;
}

/*
 * An iretq to the guest faulted: its selectors, or a rip that is not
 * canonical. As on Xen the guest's failsafe callback hears of it, from
 * kernel mode, with the frame that did not work.
 */
void iret_fault(struct vcpu *v)
{
    struct emu_frame *f = guest_frame(v);

    v->fault_cr2 = 0;
    if (!v->failsafe_callback.rip)
        crash_domain("iret refused and no failsafe callback registered");
    if (v->pub.in_kernel && v->kernel_sp == 0)
        crash_domain("iret refused in kernel mode");
    bounce(v, f, &v->failsafe_callback, BOUNCE_FAILSAFE, 0);
}
