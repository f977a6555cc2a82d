/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exceptions for the guest, through the gates of its own table. */
#include "emu/emu.h"

void inject_gate(struct vcpu *v, struct emu_frame *f, uint8_t vector, int flags,
                 uint64_t error_code)
{
    const trap_info_t *t = &v->traps[vector];
    struct callback to = {.rip = t->address, .mask_events = TI_GET_IF(t)};

    if (!t->address)
        crash_domain("exception for which the guest has no trap table entry");
    bounce(v, f, &to, flags, error_code);
}

void inject_trap(struct vcpu *v, struct emu_frame *f, uint8_t vector,
                 uint64_t error_code)
{
    inject_gate(v, f, vector, HAS_ERROR_CODE(vector) ? BOUNCE_ERROR_CODE : 0,
                error_code);
}

void inject_page_fault(struct vcpu *v, struct emu_frame *f, uint64_t cr2,
                       uint64_t error_code)
{
    /* Both halves of the guest run at ring 3; tell it which it was. */
    error_code &= ~(uint64_t)PF_USER;
    if (!v->pub.in_kernel)
        error_code |= PF_USER;
    v->info->arch.cr2 = cr2;
    inject_trap(v, f, X86_TRAP_PF, error_code);
}
