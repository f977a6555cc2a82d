/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Offsets for the assembly sources; compiled to text, see emu/meson.build. */
#include "emu/emu.h"

#define DEFINE(name, value) \
    __asm__ volatile("\n->" #name " %0" : : "i"((uint64_t)(value)))
#define FRAME(field) DEFINE(FRAME_##field, offsetof(struct emu_frame, field))
#define VCPU(field) DEFINE(VCPU_##field, offsetof(struct vcpu, field))
#define TO_RING3(way) \
    DEFINE(VCPU_to_ring3_##way, offsetof(struct vcpu, to_ring3[TO_RING3_##way]))

static __attribute__((used)) void offsets(void)
{
    FRAME(r15);
    FRAME(r14);
    FRAME(r13);
    FRAME(r12);
    FRAME(rbp);
    FRAME(rbx);
    FRAME(r11);
    FRAME(r10);
    FRAME(r9);
    FRAME(r8);
    FRAME(rax);
    FRAME(rcx);
    FRAME(rdx);
    FRAME(rsi);
    FRAME(rdi);
    FRAME(vector);
    FRAME(error_code);
    FRAME(rip);
    FRAME(cs);
    FRAME(rflags);
    FRAME(rsp);
    FRAME(ss);
    DEFINE(FRAME_BYTES, sizeof(struct emu_frame));
    DEFINE(FRAME_OFFSET, FRAME_OFFSET);
    DEFINE(RING0_STACK_OFFSET, RING0_STACK_OFFSET);
    DEFINE(RING3_STACK_OFFSET, RING3_STACK_OFFSET);
    DEFINE(EMU_FRAME_SYSCALL, EMU_FRAME_SYSCALL);
    DEFINE(EMU_FRAME_SYSCALL32, EMU_FRAME_SYSCALL32);
    DEFINE(EMU_FRAME_SYSENTER, EMU_FRAME_SYSENTER);
    DEFINE(EMU_VECTOR_TIMER, EMU_VECTOR_TIMER);
    DEFINE(EMU_VECTOR_EVTCHN, EMU_VECTOR_EVTCHN);
    DEFINE(EMU_VECTOR_IPI, EMU_VECTOR_IPI);
    DEFINE(EMU_VECTOR_TICK, EMU_VECTOR_TICK);
    DEFINE(IRQ_TIMER, IRQ_TIMER);
    DEFINE(IRQ_EVTCHN, IRQ_EVTCHN);
    DEFINE(IRQ_IPI, IRQ_IPI);
    DEFINE(IRQ_TICK, IRQ_TICK);
    DEFINE(GUEST_CS64, FLAT_RING3_CS64);
    DEFINE(GUEST_SS64, FLAT_RING3_SS64);
    DEFINE(GUEST_CS32, FLAT_RING3_CS32);

    VCPU(irq_pending);
    VCPU(syscall_rsp);
    VCPU(syscall_stack);
    VCPU(syscall_entry);
    VCPU(syscall32_entry);
    VCPU(lstar_stub);
    VCPU(cstar_stub);
    VCPU(fault_cr2);
    VCPU(exit_cr3);
    VCPU(exit_via);
    VCPU(user_root);
    TO_RING3(TRAP);
    TO_RING3(TRAP_RAX);
    TO_RING3(PAGE_FAULT);
    TO_RING3(IRQ_TIMER);
    TO_RING3(IRQ_EVTCHN);
    TO_RING3(IRQ_IPI);
    TO_RING3(IRQ_TICK);
    VCPU(irq_end);
    DEFINE(VCPU_irq_ist, offsetof(struct vcpu, tss.ist[1]));
    DEFINE(IRQ_STACK_BYTES, IRQ_STACK_BYTES);
    VCPU(guess_tsc);
    VCPU(armed_tsc);
    DEFINE(VCPU_kernel_cr3, offsetof(struct vcpu, pub.kernel_cr3));
    DEFINE(VCPU_in_kernel, offsetof(struct vcpu, pub.in_kernel));
    DEFINE(VCPU_ring0_count, offsetof(struct vcpu, pub.counters.ring0));
}
