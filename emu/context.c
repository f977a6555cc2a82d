/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VCPUOP_initialise: a vCPU's first registers, struct vcpu_guest_context. */
#include "emu/emu.h"
#include "emu/privileged.h"

/* As Xen's arch_set_info_guest() refuses them. */
static bool is_sane(const struct vcpu_guest_context *c)
{
    for (unsigned int i = 0; i < 256; i++) {
        if (!canonical(c->trap_ctxt[i].address))
            return false;
    }
    for (unsigned int i = 0; i < 4; i++) {
        if (!canonical(c->debugreg[i]) || in_hole(c->debugreg[i]))
            return false;
    }
    if (c->debugreg[6] >> 32 || c->debugreg[7] >> 32)
        return false;
    /* There must be a root to run it under. */
    if (!(c->flags & VGCF_in_kernel) && !c->ctrlreg[1])
        return false;
    return canonical(c->user_regs.rip) && canonical(c->user_regs.rsp) &&
           canonical(c->kernel_sp) && canonical(c->ldt_base) &&
           !in_hole(c->ldt_base) && canonical(c->event_callback_eip) &&
           canonical(c->failsafe_callback_eip) &&
           canonical(c->syscall_callback_eip) && canonical(c->fs_base) &&
           canonical(c->gs_base_kernel) && canonical(c->gs_base_user) &&
           c->ldt_ents <= LDT_MOST_ENTRIES &&
           !(c->ldt_base & (PAGE_SIZE - 1)) &&
           c->gdt_ents <= EMU_GDT_MOST_ENTRIES;
}

static void set_registers(struct vcpu *v, const struct cpu_user_regs *r)
{
    *guest_frame(v) = (struct emu_frame){
        .r15 = r->r15,
        .r14 = r->r14,
        .r13 = r->r13,
        .r12 = r->r12,
        .rbp = r->rbp,
        .rbx = r->rbx,
        .r11 = r->r11,
        .r10 = r->r10,
        .r9 = r->r9,
        .r8 = r->r8,
        .rax = r->rax,
        .rcx = r->rcx,
        .rdx = r->rdx,
        .rsi = r->rsi,
        .rdi = r->rdi,
        .rip = r->rip,
        /* Both halves of the guest run at ring 3, interrupts on. */
        .cs = FLAT_RING3_CS64,
        .rflags = (r->rflags & RFLAGS_DEFINED & ~(RFLAGS_IOPL | RFLAGS_VM)) |
                  RFLAGS_IF | RFLAGS_FIXED,
        .rsp = r->rsp,
        .ss = FLAT_RING3_SS64,
    };
}

static struct callback callback(uint64_t rip, bool mask_events)
{
    return (struct callback){.rip = rip, .mask_events = mask_events};
}

static void set_callbacks(struct vcpu *v, const struct vcpu_guest_context *c)
{
    memcpy(v->traps, c->trap_ctxt, sizeof(v->traps));
    v->event_callback = callback(c->event_callback_eip, true);
    v->failsafe_callback = callback(c->failsafe_callback_eip,
                                    c->flags & VGCF_failsafe_disables_events);
    v->syscall_callback = callback(c->syscall_callback_eip,
                                   c->flags & VGCF_syscall_disables_events);
    v->nmi_callback = callback(c->trap_ctxt[X86_TRAP_NMI].address, true);
}

static void set_segments(struct vcpu *v, const struct vcpu_guest_context *c)
{
    bool in_kernel = c->flags & VGCF_in_kernel;

    v->selectors[0] = c->user_regs.ds;
    v->selectors[1] = c->user_regs.es;
    v->selectors[2] = c->user_regs.fs;
    v->selectors[3] = c->user_regs.gs;
    v->fs_base = c->fs_base;
    v->gs_base = in_kernel ? c->gs_base_kernel : c->gs_base_user;
    v->gs_inactive = in_kernel ? c->gs_base_user : c->gs_base_kernel;
}

/* Nobody else looks at a vCPU that is not initialised, nor does it run. */
static int set_context(struct vcpu *of, const struct vcpu_guest_context *c)
{
    uint64_t root = PTE_MFN(c->ctrlreg[3]), user_root = PTE_MFN(c->ctrlreg[1]);

    if (!is_sane(c) ||
        set_gdt_frames(of, c->gdt_frames, (unsigned int)c->gdt_ents) ||
        set_kernel_root(of, root) ||
        (c->ctrlreg[1] && set_user_root(of, user_root)))
        return -XEN_EINVAL;
    set_registers(of, &c->user_regs);
    set_callbacks(of, c);
    of->pub.in_kernel = !!(c->flags & VGCF_in_kernel);
    of->iopl = (uint32_t)(c->user_regs.rflags & RFLAGS_IOPL) >> 12;
    of->kernel_sp = c->kernel_sp;
    set_segments(of, c);
    of->cr4_guest = guest_cr4(of, c->ctrlreg[4]);
    for (unsigned int i = 0; i < ARRAY_SIZE(c->debugreg); i++) {
        if (i != 4 && i != 5)
            do_set_debugreg(of, i, c->debugreg[i], 0, 0, 0);
    }
    of->ldt_base = c->ldt_base;
    of->ldt_wanted = (uint32_t)c->ldt_ents;
    of->fpu_ts = !!(c->ctrlreg[0] & CR0_TS);
    return 0;
}

int initialise_vcpu(struct vcpu *v, struct vcpu *of, uint64_t arg)
{
    struct vcpu_guest_context *context = &emu_machine.context;
    int rc = -XEN_EEXIST;

    lock(v, &emu_machine.context_lock);
    if (!of->is_initialised) {
        rc = copy_from_guest(context, arg, sizeof(*context));
        if (!rc)
            rc = set_context(of, context);
        __atomic_store_n(&of->is_initialised, !rc, __ATOMIC_RELEASE);
    }
    unlock(&emu_machine.context_lock);
    return rc;
}

/* On the vCPU itself, at ring 0: what the context has beside the frame. */
void enter_context(struct vcpu *v)
{
    uint64_t root = v->pub.in_kernel ? v->pub.kernel_cr3 : v->pub.user_cr3;

    v->emu_cr3 = root;
    __asm__ volatile("mov %0, %%cr3" ::"r"(root) : "memory");
    if (v->ldt_wanted)
        set_ldt(v, v->ldt_base, v->ldt_wanted);
    load_first_debugregs(v);
    if (v->fpu_ts)
        write_cr0(v->cr0_guest | CR0_TS);
    /* As load_segments() of Xen's domain.c: its first instruction is then the
     * failsafe callback's. */
    if (!load_first_segments(v)) {
        if (!v->failsafe_callback.rip)
            crash_domain("no failsafe callback for a selector that is refused");
        bounce(v, guest_frame(v), &v->failsafe_callback,
               BOUNCE_FAILSAFE | BOUNCE_REFUSED, 0);
    }
}
