/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exceptions, interrupts and system calls as the entry code hands them in. */
#include "emu/emu.h"
#include "emu/privileged.h"

extern char iret_to_guest[], ring0_iret_to_guest[], iret_refused[],
    ring0_iret_refused[], sysenter_ring0[], sysenter_flags_saved[];

static uint64_t read_cr2(struct vcpu *v)
{
    if (!slow_ring0())
        __asm__ volatile("mov %%cr2, %0" : "=r"(v->fault_cr2));
    return v->fault_cr2;
}

static void page_fault(struct vcpu *v, struct emu_frame *f)
{
    uint64_t root = v->pub.in_kernel ? v->pub.kernel_cr3 : v->pub.user_cr3;
    uint64_t cr2 = read_cr2(v);

    if (unlikely(in_hole(cr2))) {
        if (slow_ring0() && emulate_m2p_load(v, f, cr2))
            return;
        if (fix_ldt_fault(v, cr2, f->error_code) || inject_ldt_fault(v, f, cr2))
            return;
    } else if (fix_page_fault(v, root, cr2, f->error_code)) {
        return;
    }
    inject_page_fault(v, f, cr2, f->error_code);
}

/*
 * #GP. An int instruction through a gate that our IDT closes arrives here
 * with IDT set in its error code: the guest's table decides. Otherwise a
 * privileged instruction, or the guest's own fault.
 */
static void general_protection(struct vcpu *v, struct emu_frame *f)
{
    if ((f->error_code & 0xffff) != 0 && (f->error_code & 7) == 2) {
        uint8_t vector = (uint8_t)(f->error_code >> 3);
        const trap_info_t *t = &v->traps[vector];

        uint8_t opcode, operand;

        if (t->address && TI_GET_DPL(t) >= (v->pub.in_kernel ? 1U : 3U) &&
            skip_int(v, f, &opcode, &operand)) {
            v->pub.counters.soft_int++;
            inject_gate(v, f, vector, 0, 0);
            return;
        }
    } else if (f->error_code == 0 && emulate_privileged(v, f)) {
        return;
    }
    inject_trap(v, f, X86_TRAP_GP, f->error_code);
}

/* #BP, #OF and int 0x80 come through open gates; rip is past them. As Xen,
 * no look at the guest's DPL. */
static void software_interrupt(struct vcpu *v, struct emu_frame *f)
{
    const trap_info_t *t = &v->traps[f->vector & 0xff];

    if (t->address) {
        inject_gate(v, f, (uint8_t)f->vector, 0, 0);
        return;
    }
    f->rip -= f->vector == X86_TRAP_BP || f->vector == X86_TRAP_OF ? 1 : 2;
    inject_trap(v, f, X86_TRAP_GP, (f->vector & 0xff) << 3 | 2);
}

/*
 * #UD. A software KVM cannot run int3, int n and into in the 32-bit code that
 * it interprets, and raises it there; hardware never does for these opcodes,
 * but for into in 64 bits. True: was one, and has been done.
 */
static bool undefined_int(struct vcpu *v, struct emu_frame *f)
{
    uint64_t at = f->rip;
    uint8_t opcode, vector;

    if (!skip_int(v, f, &opcode, &vector))
        return false;
    if (opcode != 0xcd || open_gate(vector)) {
        v->pub.counters.soft_int++;
        f->vector = vector;
        software_interrupt(v, f);
    } else {
        /* A gate that is closed on hardware. */
        f->rip = at;
        f->error_code = (uint64_t)vector << 3 | 2;
        general_protection(v, f);
    }
    return true;
}

/* 32-bit code reaches us by #UD, with its first int n at the latest, where it
 * is interpreted: who looks after the guest is to know. */
static void notice_narrow_code(struct vcpu *v, const struct emu_frame *f)
{
    struct descriptor d;

    if (!slow_ring0() || v->told_narrow_code || f->cs == FLAT_RING3_CS64 ||
        !read_descriptor(v, (uint16_t)f->cs, &d) || d.is_64bit)
        return;
    v->told_narrow_code = 1;
    v->pub.request.arg[0] = EMU_NOTICE_NARROW_CODE;
    request(v, EMU_REQUEST_NOTICE);
}

static void debug(struct vcpu *v, struct emu_frame *f)
{
    uint64_t dr6 = read_dr6();

    write_dr(6, DR6_FIXED);
    /* A software KVM may leave DR6 alone: then TF tells a single step. */
    if (!(dr6 & 0xe00f) && f->rflags & RFLAGS_TF)
        dr6 |= DR6_BS;
    v->dr[6] = (v->dr[6] | (dr6 & 0xe00f)) | DR6_FIXED;
    inject_trap(v, f, X86_TRAP_DB, 0);
}

static void device_not_available(struct vcpu *v, struct emu_frame *f)
{
    /* Xen gives the FPU back before it tells the guest. */
    v->fpu_ts = 0;
    write_cr0(v->cr0_guest & ~CR0_TS);
    inject_trap(v, f, X86_TRAP_NM, 0);
}

static void exception(struct vcpu *v, struct emu_frame *f)
{
    uint8_t vector = (uint8_t)f->vector;

    v->pub.counters.trap[vector & 31]++;
    trace(v, EMU_TRACE_TRAP, vector, f->rip, f->error_code,
          vector == X86_TRAP_PF ? v->fault_cr2 : f->rsp);
    switch (vector) {
    case X86_TRAP_DB:
        debug(v, f);
        break;
    case X86_TRAP_BP:
    case X86_TRAP_OF:
        software_interrupt(v, f);
        break;
    case X86_TRAP_UD:
        notice_narrow_code(v, f);
        if (!emulate_forced(v, f) && !undefined_int(v, f))
            inject_trap(v, f, X86_TRAP_UD, 0);
        break;
    case X86_TRAP_NM:
        device_not_available(v, f);
        break;
    case X86_TRAP_GP:
        general_protection(v, f);
        break;
    case X86_TRAP_PF:
        page_fault(v, f);
        break;
    default:
        inject_trap(v, f, vector, f->error_code);
    }
}

static void interrupt(struct vcpu *v, const struct emu_frame *f)
{
    v->pub.counters.irq++;
    trace(v, EMU_TRACE_IRQ, (uint32_t)f->vector, f->rip, f->rsp, 0);
    if (slow_ring0())
        return; /* ring0.S has noted and ended it */
    switch (f->vector) {
    case EMU_VECTOR_TIMER:
        v->irq_pending |= IRQ_TIMER;
        break;
    case EMU_VECTOR_EVTCHN:
        v->irq_pending |= IRQ_EVTCHN;
        break;
    case EMU_VECTOR_IPI:
        v->irq_pending |= IRQ_IPI;
        break;
    default:
        return;
    }
    raw_wrmsr(MSR_X2APIC_EOI, 0);
}

/* What SYSCALL left of the flags of user space, which r11 has at the stub
 * whoever went there. */
static uint64_t flags_before(const struct emu_frame *f)
{
    return (f->r11 & RFLAGS_DEFINED & ~(RFLAGS_IOPL | RFLAGS_VM)) | RFLAGS_IF;
}

/*
 * Slow ring 0 only: the guest was stopped on its SYSCALL stub. From user
 * space that is how every system call begins (the stub is not mapped for
 * ring 3 there: #PF on the fetch). An interrupt that fell between SYSCALL and
 * emu came before it: the guest's kernel may go on elsewhere, with another
 * vCPU for this process, whose stub has another address.
 * True if the frame now is a system call's.
 *
 * User space can jump to the stub as well. At its start that is a system call
 * of whatever it says that its flags were; further in, a fetch like any other.
 */
static bool stopped_on_stub(struct vcpu *v, struct emu_frame *f)
{
    uint64_t stub = LSTAR_VIRT(v);

    if (f->rip - stub >= sizeof(v->lstar_stub))
        return false;
    if (f->rip == stub && f->vector == X86_TRAP_PF && !v->pub.in_kernel) {
        f->rip = f->rcx;
        f->rflags = flags_before(f);
        f->vector = EMU_FRAME_SYSCALL;
        f->error_code = 0;
        return true;
    }
    if (f->rip != stub) {
        if (!v->pub.in_kernel && f->cs & 3)
            return false;
        f->rsp = v->syscall_rsp;
    }
    f->rip = f->rcx - 2;
    f->rflags = v->pub.in_kernel ? f->r11 : flags_before(f);
    /* Ring 0's if KVM has interpreted the SYSCALL (syscall_ring3). */
    f->cs = FLAT_RING3_CS64;
    f->ss = FLAT_RING3_SS64;
    return false;
}

static bool is_interrupt(const struct emu_frame *f)
{
    return f->vector >= EMU_VECTOR_TIMER && f->vector <= EMU_VECTOR_SPURIOUS;
}

/* Every stop of the guest that is not a SYSCALL. Interrupts are off (fast
 * ring 0) or only noted. */
void guest_trap(struct emu_frame *f)
{
    struct vcpu *v = this_vcpu();

    v->pub.state &= ~(uint32_t)EMU_VCPU_IN_GUEST;
    v->pub.counters.ring0++;
    if (slow_ring0()) {
        v->emu_cr3 = v->pub.kernel_cr3; /* descend loaded it */
        if (stopped_on_stub(v, f)) {
            guest_syscall(f);
            return;
        }
    }
    if (is_interrupt(f)) {
        interrupt(v, f);
    } else if (f->vector < 32) {
        exception(v, f);
    } else {
        v->pub.counters.soft_int++;
        trace(v, EMU_TRACE_TRAP, (uint32_t)f->vector, f->rip, f->rax, 0);
        software_interrupt(v, f);
    }
}

static void system_call(struct vcpu *v, struct emu_frame *f,
                        const struct callback *to)
{
    v->pub.counters.syscall++;
    trace(v, EMU_TRACE_SYSCALL, (uint32_t)f->rax, f->rip, f->rax, f->rdi);
    if (!to->rip) {
        f->rip -= 2;
        inject_trap(v, f, X86_TRAP_UD, 0);
        return;
    }
    f->rcx = f->rip;
    f->r11 = f->rflags;
    bounce(v, f, to, 0, 0);
    /* There is no mask for the guest to set: Xen clears this one for it
     * (switch_to_kernel in its entry.S), and Linux relies on that. */
    f->rflags &= ~RFLAGS_DF;
}

/* Its frame says nothing but the flags, sysenter_ring0. */
static void sysenter(struct vcpu *v, struct emu_frame *f)
{
    v->pub.counters.syscall++;
    trace(v, EMU_TRACE_SYSCALL, (uint32_t)f->rax, f->rip, f->rax, f->rdi);
    if (v->sysenter_callback.rip)
        bounce(v, f, &v->sysenter_callback, 0, 0);
    else
        inject_trap(v, f, X86_TRAP_GP, 0);
}

/*
 * SYSCALL: a hypercall from the guest's kernel, a system call from below. From
 * 32-bit code, and SYSENTER, the callback's whoever does it, as on Xen.
 */
void guest_syscall(struct emu_frame *f)
{
    struct vcpu *v = this_vcpu();

    v->pub.state &= ~(uint32_t)EMU_VCPU_IN_GUEST;
    if (!slow_ring0())
        v->pub.counters.ring0++;
    if (unlikely(f->vector == EMU_FRAME_SYSCALL32)) {
        system_call(v, f, &v->syscall32_callback);
        return;
    }
    if (unlikely(f->vector == EMU_FRAME_SYSENTER)) {
        sysenter(v, f);
        return;
    }
    if (!v->pub.in_kernel) {
        system_call(v, f, &v->syscall_callback);
        return;
    }
    f->rax =
        (uint64_t)hypercall(v, f->rax, f->rdi, f->rsi, f->rdx, f->r10, f->r8);
}

/* Go on at to with another stack, never to come back. */
static void __attribute__((noreturn)) leave_for(uint64_t sp, const char *to)
{
    __asm__ volatile("mov %0, %%rsp\n\tjmp *%1" ::"r"(sp), "r"(to));
    __builtin_unreachable();
}

/*
 * A fault of emu's own: a guest address that was not there (fixed up), an
 * iretq whose frame the CPU refused, a tick while halted, a watchpoint of the
 * guest's on what emu read or wrote for it; else our bug.
 */
void emu_trap(struct emu_frame *f)
{
    struct vcpu *v = this_vcpu();
    uint64_t cr2, to;

    if (is_interrupt(f)) {
        interrupt(v, f);
        return;
    }
    if (f->vector == X86_TRAP_DB) {
        /* As on Xen, nobody hears of it (do_debug in its traps.c). A single
         * step is SYSENTER's: its entry has to save TF first. */
        write_dr(6, DR6_FIXED);
        if (f->rip < (uint64_t)sysenter_ring0 ||
            f->rip >= (uint64_t)sysenter_flags_saved)
            f->rflags &= ~(uint64_t)RFLAGS_TF;
        return;
    }
    if (f->vector == X86_TRAP_PF) {
        __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
        if (in_hole(cr2) ? fix_ldt_fault(v, cr2, f->error_code)
                         : fix_page_fault(v, v->emu_cr3, cr2, f->error_code))
            return;
    }
    if (f->rip == (uint64_t)iret_to_guest ||
        f->rip == (uint64_t)ring0_iret_to_guest) {
        struct emu_frame regs = *f;

        /* The fault's frame lies over the guest's: nothing of it is left
         * to return through once the guest's registers are back. */
        memcpy(guest_frame(v), &regs, offsetof(struct emu_frame, vector));
        leave_for((uint64_t)v + RING3_STACK_OFFSET,
                  slow_ring0() ? ring0_iret_refused : iret_refused);
    }
    to = fixup_exception(f->rip);
    if (to) {
        f->rip = to;
        return;
    }
    /* Ours: report it with our own registers. */
    v->pub.request.arg[0] = f->vector;
    *guest_frame(v) = *f;
    bug("trap inside emu");
}

/* The last of C before the guest runs: events, timers, roots, exit kind. */
void prepare_exit(struct vcpu *v)
{
    struct emu_frame *f = guest_frame(v);

    if (READ_ONCE(v->irq_pending))
        take_interrupts(v);
    if (unlikely(READ_ONCE(v->is_down)))
        wait_until_up(v);
    if (v->nmi_pending && v->nmi_callback.rip) {
        v->nmi_pending = 0;
        bounce(v, f, &v->nmi_callback, 0, 0);
    } else if (upcall_wanted(v) && v->event_callback.rip) {
        v->pub.counters.upcall++;
        bounce(v, f, &v->event_callback, 0, 0);
    }
    v->exit_via = EXIT_RING0;
    /* An iretq that may be refused is ring 0's: it knows what to do then. */
    if (slow_ring0() && v->pub.in_kernel && f->cs == FLAT_RING3_CS64 &&
        f->ss == FLAT_RING3_SS64 && canonical(f->rip))
        v->exit_via = EXIT_RING3;
    mm_prepare_exit(v);
    v->pub.state |= EMU_VCPU_IN_GUEST;
}
