/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the first instruction of a vCPU to the guest's first. */

#include "emu/clock.h"
#include "emu/privileged.h"
#include "emu/privop.h"

#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_X2APIC_TPR 0x808
#define MSR_X2APIC_SVR 0x80f
#define MSR_X2APIC_SELF_IPI 0x83f
#define MSR_KVM_STEAL_TIME 0x4b564d03

#define APIC_SVR_ENABLE 0x100

/* What SYSCALL clears: TF, IF, DF, IOPL, NT, AC. */
#define SYSCALL_MASK 0x47700

struct dtr {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

extern char trap_stubs[], slow_stubs[], debug_stub[], nmi_stub[],
    slow_page_fault[], slow_general_protection[], slow_irq_timer[],
    slow_irq_evtchn[], slow_irq_ipi[], slow_irq_tick[], slow_irq_spurious[],
    slow_irq_probe[], ended_irq_timer[], ended_irq_evtchn[], ended_irq_ipi[],
    ended_irq_tick[];
extern char lstar_template[], lstar_template_end[], cstar_template[],
    cstar_template_end[];
extern char syscall_ring0[], syscall_ring3[], syscall32_ring0[],
    sysenter_ring0[];
extern char trap_ring3[], trap_rax[], trap_page_fault[], irq_timer[],
    irq_evtchn[], irq_ipi[], irq_tick[];
void enter_guest(struct vcpu *v) __attribute__((noreturn));

static void set_gate(unsigned int vector, const char *entry, unsigned int ist)
{
    uint64_t rip = (uint64_t)entry;
    struct idt_gate g = {
        .low = (uint16_t)rip,
        .selector = EMU_CS,
        .ist = (uint8_t)ist,
        .type = (uint8_t)(0x8e | (open_gate(vector) ? 3 : 0) << 5),
        .mid = (uint16_t)(rip >> 16),
        .high = (uint32_t)(rip >> 32),
    };

    emu_machine.idt[vector] = g;
}

static void init_idt(void)
{
    const char *stubs = slow_ring0() ? slow_stubs : trap_stubs;

    for (unsigned int i = 0; i < 256; i++)
        set_gate(i, stubs + i * 16, 0);
    set_gate(2, nmi_stub, 1);
    set_gate(8, stubs + 8 * 16, 1);
    if (!slow_ring0()) {
        set_gate(X86_TRAP_DB, debug_stub, 3);
    } else {
        set_gate(X86_TRAP_GP, slow_general_protection, 0);
        set_gate(X86_TRAP_PF, slow_page_fault, 0);
        set_gate(EMU_VECTOR_TIMER, slow_irq_probe, 0);
        set_gate(EMU_VECTOR_IPI, slow_irq_probe, 0);
        set_gate(EMU_VECTOR_SPURIOUS, slow_irq_spurious, 0);
    }
}

/*
 * Slow ring 0: is an interrupt that is being handled in service, and so has to
 * be ended? Not on every software KVM. ring0.S, the slow way to find out, is
 * asked once, with one interrupt of the timer and one of the IPIs' kind.
 */
static bool irq_in_service(void)
{
    uint32_t seen = 0, bits;

    for (unsigned int i = 0; i < 2; i++) {
        if (i == 0)
            raw_wrmsr(MSR_TSC_DEADLINE, 1); /* long ago: at once */
        else
            raw_wrmsr(MSR_X2APIC_SELF_IPI, EMU_VECTOR_IPI);
        __asm__ volatile("sti; hlt; cli"
                         : "=S"(bits)
                         :
                         : "rax", "rcx", "rdx", "memory");
        seen |= bits;
    }
    return seen != 0;
}

static void init_slow_irqs(void)
{
    bool eoi = irq_in_service();

    set_gate(EMU_VECTOR_TIMER, eoi ? slow_irq_timer : ended_irq_timer, 2);
    set_gate(EMU_VECTOR_EVTCHN, eoi ? slow_irq_evtchn : ended_irq_evtchn, 2);
    set_gate(EMU_VECTOR_IPI, eoi ? slow_irq_ipi : ended_irq_ipi, 2);
    set_gate(EMU_VECTOR_TICK, eoi ? slow_irq_tick : ended_irq_tick, 2);
}

static void init_stacks(struct vcpu *v)
{
    uint64_t block = (uint64_t)v;

    const char *const to_ring3[TO_RING3_NR] = {
        [TO_RING3_TRAP] = trap_ring3,
        [TO_RING3_TRAP_RAX] = trap_rax,
        [TO_RING3_PAGE_FAULT] = trap_page_fault,
        [TO_RING3_IRQ_TIMER] = irq_timer,
        [TO_RING3_IRQ_EVTCHN] = irq_evtchn,
        [TO_RING3_IRQ_IPI] = irq_ipi,
        [TO_RING3_IRQ_TICK] = irq_tick,
    };

    v->tss.rsp[0] =
        block + (slow_ring0() ? RING0_STACK_OFFSET : EMU_VCPU_BYTES);
    v->tss.ist[0] = (uint64_t)v->ist_stack + sizeof(v->ist_stack);
    v->tss.ist[1] = (uint64_t)v->irq_end;
    v->tss.ist[2] = (uint64_t)v->debug_stack + sizeof(v->debug_stack);
    v->tss.iomap_base = sizeof(v->tss);
    for (unsigned int i = 0; i < TO_RING3_NR; i++) {
        v->to_ring3[i] = (struct iretq_frame){
            .rip = (uint64_t)to_ring3[i],
            .cs = FLAT_RING3_CS64,
            .rflags = RFLAGS_IF | RFLAGS_FIXED,
            .rsp = block + EMU_VCPU_BYTES,
            .ss = FLAT_RING3_SS64,
        };
    }
    v->syscall_stack = block + EMU_VCPU_BYTES;
    v->syscall_entry = (uint64_t)(slow_ring0() ? syscall_ring3 : syscall_ring0);
    v->syscall32_entry = (uint64_t)syscall32_ring0;
    memcpy(v->lstar_stub, lstar_template,
           (size_t)(lstar_template_end - lstar_template));
    memcpy(v->cstar_stub, cstar_template,
           (size_t)(cstar_template_end - cstar_template));
}

/*
 * How a processor enters ring 0 when asked to without the IDT. Each way that it
 * has is set, whether the guest wants to hear of it or not. Intel has no
 * SYSCALL in 32-bit code and does not mind the register; AMD has no SYSENTER in
 * long mode, but QEMU's has, with a CS that its own VMRUN refuses later: with
 * these registers clear it raises #GP. A KVM that interprets 32-bit code would
 * go to the low half of CSTAR at ring 0; it is told to raise #UD instead
 * (xennerd/vm/kvm/cpuid.py).
 */
static void init_syscalls(struct vcpu *v)
{
    raw_wrmsr(MSR_STAR,
              (uint64_t)(FLAT_RING3_CS64 - 16) << 48 | (uint64_t)EMU_CS << 32);
    raw_wrmsr(MSR_LSTAR, LSTAR_VIRT(v));
    /* A software KVM applies the mask to its idea of IF, which a ring 3 iretq
     * cannot set again: there interrupts stay on, and are only noted. */
    raw_wrmsr(MSR_SFMASK,
              slow_ring0() ? SYSCALL_MASK & ~RFLAGS_IF : SYSCALL_MASK);
    if (slow_ring0())
        return;
    raw_wrmsr(MSR_CSTAR, (uint64_t)v->cstar_stub);
    if (cpuid_is_amd())
        return;
    raw_wrmsr(MSR_SYSENTER_CS, EMU_CS);
    raw_wrmsr(MSR_SYSENTER_ESP, (uint64_t)v + EMU_VCPU_BYTES);
    raw_wrmsr(MSR_SYSENTER_EIP, (uint64_t)sysenter_ring0);
}

static void init_cpu(struct vcpu *v)
{
    struct dtr gdtr = {
        .limit = EMU_GDT_BYTE + sizeof(v->gdt) - 1,
        .base = GDT_WINDOW_VIRT + (uint64_t)v->pub.id * DT_WINDOW_BYTES,
    };
    struct dtr idtr = {
        .limit = sizeof(emu_machine.idt) - 1,
        .base = (uint64_t)emu_machine.idt,
    };

    __asm__ volatile("lgdt %0" ::"m"(gdtr));
    __asm__ volatile("lidt %0" ::"m"(idtr));
    __asm__ volatile("ltr %0" ::"r"((uint16_t)EMU_TSS));
    /* After a reset it has a limit and begins at 0 (SDM vol 3, table 10-1). */
    __asm__ volatile("lldt %0" ::"r"((uint16_t)0));

    load_cr4(v);

    init_syscalls(v);
    raw_wrmsr(MSR_X2APIC_TPR, 0);
    raw_wrmsr(MSR_X2APIC_SVR, APIC_SVR_ENABLE | EMU_VECTOR_SPURIOUS);
    raw_wrmsr(MSR_X2APIC_LVT_TIMER, APIC_TIMER_TSC_DEADLINE | EMU_VECTOR_TIMER);
    /* KVM's LAPIC counts nanoseconds. */
    raw_wrmsr(MSR_X2APIC_TIMER_DIVIDE, APIC_TIMER_DIVIDE_BY_1);
    raw_wrmsr(MSR_KVM_STEAL_TIME, ((uint64_t)&v->steal - DIRECTMAP_VIRT) | 1);
}

/* What vCPUs see of each other, before any of the others runs. */
static void init_blocks(void)
{
    uint64_t cr4;

    /* The same for all, as VCPUOP_initialise comes before a vCPU's start. */
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    for (uint32_t id = 0; id < shared->nr_vcpus; id++) {
        struct vcpu *v = vcpu_by_id(id);

        v->pub.id = id;
        v->pub.frame_gpa = (uint64_t)guest_frame(v) - DIRECTMAP_VIRT;
        v->info = &shinfo->vcpu_info[id];
        v->info->evtchn_upcall_mask = 1;
        v->is_down = 1;
        v->runstate.state = RUNSTATE_offline;
        v->cr0_guest = 0x80050033;
        v->cr4_guest = cr4;
        init_debugregs(v);
        v->period_ns = 10000000; /* Xen's default VIRQ_TIMER, 100 Hz */
    }
}

/* The vCPU's time begins. */
static void start_clock(struct vcpu *v)
{
    update_time(v, true);
    if (v->pub.id == 0)
        v->runstate.state_entry_time = system_time_ns();
    v->steal_seen = v->steal.steal;
    runstate_change(v, RUNSTATE_running);
    if (v->period_ns)
        v->periodic_next_ns = system_time_ns() + v->period_ns;
    v->pub.state = EMU_VCPU_UP | EMU_VCPU_IN_GUEST;
    timer_program(v);
}

static void start_vcpu0(struct vcpu *v) __attribute__((noreturn));
static void start_other(struct vcpu *v) __attribute__((noreturn));

void vcpu_main(uint32_t id)
{
    struct vcpu *v = vcpu_by_id(id);

    BUG_ON(shared->magic != EMU_ABI_MAGIC);
    BUG_ON(shared->version != EMU_ABI_VERSION);
    BUG_ON(shared->bytes != sizeof(struct emu_shared));
    if (id == 0) {
        init_machine();
        init_blocks();
        init_idt();
    }
    init_stacks(v);
    init_gdt(v);
    init_cpu(v);
    if (id == 0) {
        if (slow_ring0())
            init_slow_irqs();
        evtchn_init();
        start_vcpu0(v);
    }
    start_other(v);
}

/* The registers of public/xen.h's start of day. */
static void start_vcpu0(struct vcpu *v)
{
    struct emu_frame *f = guest_frame(v);

    memset(f, 0, sizeof(*f));
    f->rip = shared->start_rip;
    f->cs = FLAT_RING3_CS64;
    f->rflags = RFLAGS_IF | RFLAGS_FIXED;
    f->rsp = shared->start_rsp;
    f->ss = FLAT_RING3_SS64;
    f->rsi = shared->start_info_va;

    v->pub.in_kernel = 1;
    v->pub.kernel_cr3 = shared->start_cr3;
    install_emu_slots(shared->start_cr3, false);
    v->emu_cr3 = shared->start_cr3;
    v->is_initialised = v->is_started = 1;
    v->is_down = 0;
    start_clock(v);
    for (uint32_t id = 1; id < shared->nr_vcpus; id++)
        vcpu_by_id(id)->runstate.state_entry_time = system_time_ns();
    v->pub.request.nr = EMU_REQUEST_READY;
    __asm__ volatile("outl %0, %1" ::"a"(EMU_REQUEST_READY),
                     "d"((uint16_t)EMU_PORT_REQUEST)
                     : "memory");
    __asm__ volatile("mov %0, %%cr3" ::"r"(v->pub.kernel_cr3) : "memory");
    enter_guest(v);
}

/* The registers that VCPUOP_initialise left. */
static void start_other(struct vcpu *v)
{
    enter_context(v);
    start_clock(v);
    /* Those sent before the LAPIC was enabled are lost: look now. */
    take_ipi(v);
    timer_program(v);
    /* Last, as emu's own faults would be taken for the user's (ring0.S). */
    v->user_root = slow_ring0() && !v->pub.in_kernel;
    enter_guest(v);
}
