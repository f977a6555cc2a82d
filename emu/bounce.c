/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handing an event to the guest's kernel: the frame it finds on its stack
 * and the two modes, both at ring 3, between which the hardware does not
 * know a difference.
 *
 * Lowest address first (Xen's create_bounce_frame, which guests rely on):
 *
 *   rcx  r11  [ds es fs gs: failsafe]  [error code]  rip
 *   cs | saved upcall mask << 32   rflags (IF: events were on)   rsp  ss
 */
#include "emu/emu.h"
#include "emu/privileged.h"

/* Both: the frame is not touched. The root changes on the way out, but emu
 * reaches the guest kernel's memory from here on. */
void enter_kernel_mode(struct vcpu *v)
{
    if (v->pub.in_kernel)
        return;
    swap_gs(v);
    v->pub.in_kernel = 1;
    if (v->emu_cr3 != v->pub.kernel_cr3) {
        v->emu_cr3 = v->pub.kernel_cr3;
        write_cr3(v->emu_cr3);
        v->flush = FLUSH_NONE;
    }
}

void enter_user_mode(struct vcpu *v)
{
    if (!v->pub.in_kernel)
        return;
    if (!v->pub.user_cr3)
        crash_domain("iret to user mode before MMUEXT_NEW_USER_BASEPTR");
    swap_gs(v);
    v->pub.in_kernel = 0;
}

static uint64_t selectors(const struct vcpu *v, int flags, guest_word *out)
{
    uint32_t ds, es, fs, gs;

    if (flags & BOUNCE_REFUSED) {
        for (unsigned int i = 0; i < ARRAY_SIZE(v->selectors); i++)
            out[i] = v->selectors[i];
        return ARRAY_SIZE(v->selectors);
    }
    __asm__("mov %%ds, %0" : "=r"(ds));
    __asm__("mov %%es, %0" : "=r"(es));
    __asm__("mov %%fs, %0" : "=r"(fs));
    __asm__("mov %%gs, %0" : "=r"(gs));
    out[0] = ds;
    out[1] = es;
    out[2] = fs;
    out[3] = gs;
    return 4;
}

void bounce(struct vcpu *v, struct emu_frame *f, const struct callback *to,
            int flags, uint64_t error_code)
{
    bool from_kernel = v->pub.in_kernel;
    guest_word words[12];
    uint64_t n = 0, sp, mask;

    if (!to->rip)
        crash_domain("no handler registered for an event of the guest");
    enter_kernel_mode(v);
    mask = v->info->evtchn_upcall_mask;

    words[n++] = f->rcx;
    words[n++] = f->r11;
    if (flags & BOUNCE_FAILSAFE)
        n += selectors(v, flags, &words[n]);
    if (flags & BOUNCE_ERROR_CODE)
        words[n++] = error_code & 0xffffffff;
    words[n++] = f->rip;
    /* RPL 0 tells the guest that its kernel was interrupted. */
    words[n++] = (f->cs & (from_kernel ? 0xfffc : 0xffff)) | (mask & 0xff)
                                                                 << 32;
    words[n++] = (f->rflags & ~(RFLAGS_IF | RFLAGS_IOPL)) |
                 (mask & 0xff ? 0 : RFLAGS_IF) |
                 (emu_machine.vm_assist & 1UL << VMASST_TYPE_architectural_iopl
                      ? (uint64_t)v->iopl << 12
                      : 0);
    words[n++] = f->rsp;
    words[n++] = f->ss;

    sp = (from_kernel ? f->rsp : v->kernel_sp) & ~0xfUL;
    sp -= n * sizeof(words[0]);
    if (copy_to_guest(sp, words, n * sizeof(words[0])))
        crash_domain("the guest kernel's stack is not writable");

    if (to->mask_events)
        v->info->evtchn_upcall_mask = 1;
    f->rip = to->rip;
    f->cs = FLAT_RING3_CS64;
    f->rflags &= ~(RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM | RFLAGS_AC);
    f->rflags = (f->rflags & ~RFLAGS_IOPL) | RFLAGS_IF;
    f->rsp = sp;
    f->ss = FLAT_RING3_SS64;
}
