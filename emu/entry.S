/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ways into emu and out of it.
 *
 * struct emu_frame, the guest's registers while emu runs:
 *
 *   offset      pushed by          content
 *   FRAME_ss    CPU or SYSCALL     the guest's stack segment
 *   FRAME_rsp     "                the guest's stack pointer
 *   FRAME_rflags  "
 *   FRAME_cs      "
 *   FRAME_rip     "                <- last word of an iretq frame
 *   error_code  CPU or stub        0 where the vector has none
 *   vector      stub               IDT vector or EMU_FRAME_SYSCALL
 *   rdi .. r15  PUSH_GPRS
 *
 * The guest's frame always ends at the last byte of its vCPU's block, which
 * is where TSS.RSP0 points when ring 0 is fast. There a fault of emu itself
 * lands further down the same stack. Where ring 0 is slow (ring0.S), ring 0
 * copies the hardware's part to that place and the C runs at ring 3 on the
 * stack below RING3_STACK_OFFSET; guest_trap and guest_syscall never know.
 *
 * C is entered with DF clear. %rsp & ~(EMU_VCPU_BYTES - 1) is the vCPU.
 */
#include "abi/layout.h"
#include "emu/entry.h"
#include "offsets.h"


        .section .text.head, "ax"

/* %rdi: vCPU number, %rsp: end of its block, ring 0, interrupts off. */
FUNC(start)
        subq    $256, %rsp                      /* The guest's frame is there. */
        call    vcpu_main
        ud2
END(start)

        .text

/* ------------------------------------------------------- fast ring 0 ---- */

/*
 * One stub of 16 bytes per vector. %rsp: the hardware's frame on this vCPU's
 * ring 0 stack. All registers the interrupted code's.
 */
        .balign 16
        .globl  trap_stubs
trap_stubs:
        .set    vector, 0
        .rept   256
        .balign 16
        .if     !HAS_ERROR_CODE(vector)
        pushq   $0
        .endif
        pushq   $vector
        jmp     trap_common
        .set    vector, vector + 1
        .endr

/* %rsp: vector slot.  Clobbers nothing of the interrupted code's. */
FUNC(trap_common)
        PUSH_GPRS
        cld
        movq    %rsp, %rdi
        testb   $3, FRAME_cs(%rsp)              /* Ring 0: emu itself. */
        jz      1f
        call    guest_trap
        jmp     exit_ring0
1:      call    emu_trap                        /* May change FRAME_rip. */
        POP_GPRS
        addq    $16, %rsp
        iretq
END(trap_common)

/*
 * #DB, on the IST's stack: a watchpoint that the operand of a `mov to ss` hits
 * is held back over the next instruction (SDM vol 3, 6.8.3). If that is a
 * SYSCALL, the trap comes at emu's first, with the guest's stack pointer still.
 * The guest's own go on where all of its traps do.
 */
#define IST_FRAME_CS 8
FUNC(debug_stub)
        testb   $3, IST_FRAME_CS(%rsp)
        jz      1f
        pushq   %rax
        pushq   %rbx
        leaq    16(%rsp), %rbx                  /* The hardware's frame. */
        movq    %rsp, %rax
        andq    $-EMU_VCPU_BYTES, %rax
        leaq    EMU_VCPU_BYTES(%rax), %rsp
        pushq   32(%rbx)
        pushq   24(%rbx)
        pushq   16(%rbx)
        pushq   8(%rbx)
        pushq   (%rbx)
        movq    -8(%rbx), %rax
        movq    -16(%rbx), %rbx
1:      pushq   $0
        pushq   $X86_TRAP_DB
        jmp     trap_common
END(debug_stub)

/* NMI: nothing here raises one on purpose; the stack is the IST's. */
FUNC(nmi_stub)
        iretq
END(nmi_stub)

/*
 * SYSCALL arrives here. The template is copied into each vCPU's block, so
 * that %rip finds the vCPU while every register is still the guest's: %rcx
 * return address, %r11 flags, %rsp the guest's stack. Interrupts are off
 * (fast ring 0) or any interruption is undone by going back to before the
 * SYSCALL (slow ring 0, guest_trap).
 */
        .globl  lstar_template, lstar_template_end
lstar_template:
#define BLOCK(field) (lstar_template + VCPU_##field - VCPU_lstar_stub)(%rip)
        movq    %rsp, BLOCK(syscall_rsp)
        movq    BLOCK(syscall_stack), %rsp
        jmpq    *BLOCK(syscall_entry)
lstar_template_end:

/* Likewise from a 32-bit code segment, on processors that have it there. */
        .globl  cstar_template, cstar_template_end
cstar_template:
#define BLOCK32(field) (cstar_template + VCPU_##field - VCPU_cstar_stub)(%rip)
        movq    %rsp, BLOCK32(syscall_rsp)
        movq    BLOCK32(syscall_stack), %rsp
        jmpq    *BLOCK32(syscall32_entry)
cstar_template_end:

/* %rsp: end of the block.  Builds the guest's frame as an iretq would need.
 * SYSCALL does not tell which segments there were: as Xen, the flat ones. */
.macro SYSCALL_FRAME cs=GUEST_CS64, vector=EMU_FRAME_SYSCALL
        pushq   $GUEST_SS64
        pushq   (VCPU_syscall_rsp - EMU_VCPU_BYTES + 8)(%rsp)
        pushq   %r11
        pushq   $\cs
        pushq   %rcx
        pushq   $0
        pushq   $\vector
        PUSH_GPRS
        movq    %rsp, %rdi
.endm

FUNC(syscall_ring0)
        SYSCALL_FRAME
        call    guest_syscall
        jmp     exit_ring0
END(syscall_ring0)

FUNC(syscall32_ring0)
        SYSCALL_FRAME GUEST_CS32, EMU_FRAME_SYSCALL32
        call    guest_syscall
        jmp     exit_ring0
END(syscall32_ring0)

/*
 * SYSENTER: %rsp is the end of the block (its MSR), IF is clear, and that is
 * all: nothing says where it was, and TF, NT, AC and DF are the user's still
 * (SDM vol 2, SYSENTER). With TF each instruction raises #DB, on the IST's
 * stack; emu_trap ends that once the flags are saved. CS 3 and RIP 0 are what
 * Xen's sysenter_entry tells.
 */
FUNC(sysenter_ring0)
        pushq   $GUEST_SS64
        pushq   $0
        pushfq
        .globl  sysenter_flags_saved
sysenter_flags_saved:
        pushq   $3
        pushq   $0
        pushq   $0
        pushq   $EMU_FRAME_SYSENTER
        PUSH_GPRS
        movq    %rsp, %rdi
        pushq   $RFLAGS_FIXED                   /* NT, AC, DF off. */
        popfq
        call    guest_syscall
        jmp     exit_ring0
END(sysenter_ring0)

/* Anywhere on the vCPU's stack at ring 0: back to the guest. */
FUNC(exit_ring0)
        movq    %rsp, %rdi
        andq    $-EMU_VCPU_BYTES, %rdi
        call    prepare_exit
        movq    %rsp, %rdi
        andq    $-EMU_VCPU_BYTES, %rdi
        leaq    FRAME_OFFSET(%rdi), %rsp
        POP_GPRS
        addq    $16, %rsp
        .globl  iret_to_guest
iret_to_guest:
        iretq                                   /* #GP, #SS: bad selectors. */
END(exit_ring0)

/*
 * The guest's selectors were refused. emu_trap has put the general registers
 * back into the guest's frame (the fault overwrote them) and sent us here.
 */
FUNC(iret_refused)
        movq    %rsp, %rdi
        andq    $-EMU_VCPU_BYTES, %rdi
        call    iret_fault
        jmp     exit_ring0
END(iret_refused)

/* %rdi: vCPU. First entry into the guest, at ring 0 on every kind of KVM. */
FUNC(enter_guest)
        leaq    FRAME_OFFSET(%rdi), %rsp
        POP_GPRS
        addq    $16, %rsp
        iretq
END(enter_guest)

/* ------------------------------------------------------- slow ring 0 ---- */

/*
 * From ring0.S, under the guest kernel's root, %rsp at the end of the block.
 * The hardware's frame is where it was pushed still.
 */
#define RING0_AT(n) (RING0_STACK_OFFSET - (n) - EMU_VCPU_BYTES)(%rsp)
#define VCPU_AT(field) (VCPU_##field - EMU_VCPU_BYTES)(%rsp)

/* CR2 is in fault_cr2, %rax where the vector belongs. */
FUNC(trap_page_fault)
        movq    RING0_AT(56), %rax
        movq    $X86_TRAP_PF, RING0_AT(56)
        jmp     trap_ring3
END(trap_page_fault)

/* %rax is below the vector. */
FUNC(trap_rax)
        movq    RING0_AT(64), %rax
        jmp     trap_ring3
END(trap_rax)

/* All registers but %rsp are the guest's. */
FUNC(trap_ring3)
        .rept   7                               /* Slot to slot. */
        pushq   RING0_AT(8)
        .endr
        PUSH_GPRS
handle_trap:
        movq    %rsp, %rdi
        leaq    (RING3_STACK_OFFSET - FRAME_OFFSET)(%rsp), %rsp
        pushq   $RFLAGS_FIXED                   /* NT, AC, DF, TF off. */
        popfq
        call    guest_trap
        jmp     exit_again
END(trap_ring3)

#define FRAME_AT(field) (FRAME_OFFSET + FRAME_##field - EMU_VCPU_BYTES)(%rsp)

/* The guest's frame has rax, rcx and rdx. The guess that ring 0 has told the
 * LAPIC serves once: it may be past. */
FUNC(irq_timer)
        movq    VCPU_AT(guess_tsc), %rax
        movq    %rax, VCPU_AT(armed_tsc)
        movq    $0, VCPU_AT(guess_tsc)
        orl     $IRQ_TIMER, VCPU_AT(irq_pending)
        movl    $EMU_VECTOR_TIMER, %eax
        jmp     irq_ring3
END(irq_timer)

/* The others leave rcx and rdx to us. */
FUNC(irq_evtchn)
        movq    %rcx, FRAME_AT(rcx)
        movq    %rdx, FRAME_AT(rdx)
        orl     $IRQ_EVTCHN, VCPU_AT(irq_pending)
        movl    $EMU_VECTOR_EVTCHN, %eax
        jmp     irq_ring3
END(irq_evtchn)

FUNC(irq_ipi)
        movq    %rcx, FRAME_AT(rcx)
        movq    %rdx, FRAME_AT(rdx)
        orl     $IRQ_IPI, VCPU_AT(irq_pending)
        movl    $EMU_VECTOR_IPI, %eax
        jmp     irq_ring3
END(irq_ipi)

FUNC(irq_tick)
        movq    %rcx, FRAME_AT(rcx)
        movq    %rdx, FRAME_AT(rdx)
        orl     $IRQ_TICK, VCPU_AT(irq_pending)
        movl    $EMU_VECTOR_TICK, %eax
        jmp     irq_ring3
END(irq_tick)

/* %rax: vector. */
FUNC(irq_ring3)
        movl    $0, VCPU_AT(user_root)
        .rept   5                               /* Slot to slot. */
        pushq   (VCPU_irq_end - 8 - EMU_VCPU_BYTES)(%rsp)
        .endr
        subl    $IRQ_STACK_BYTES, 40 + VCPU_AT(irq_ist)
        pushq   $0
        pushq   %rax
        pushq   %rdi
        pushq   %rsi
        leaq    (FRAME_r8 + 8 - FRAME_rsi)(%rsp), %rsp
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        jmp     handle_trap
END(irq_ring3)

/*
 * A hypercall that never left ring 3: the guest kernel's root is loaded. Or KVM
 * has interpreted the guest's SYSCALL, as it does where a process has a stack
 * pointer that the host cannot: then this is ring 0, under any root.
 */
FUNC(syscall_ring3)
        SYSCALL_FRAME
        movl    %cs, %eax
        testb   $3, %al
        jz      syscall_interpreted
syscall_descended:
        .globl  syscall_descended
        leaq    (RING3_STACK_OFFSET - FRAME_OFFSET)(%rsp), %rsp
        pushq   $RFLAGS_FIXED
        popfq
        call    guest_syscall
        jmp     exit_again
END(syscall_ring3)

/*
 * Back to the guest from ring 3. Between exit_critical and its end an
 * interrupt makes ring 0 send us back to exit_again: the guest's frame is
 * whole until the last instruction, so the way out can start anew.
 * %rsp: anywhere in the vCPU's block.
 */
FUNC(exit_again)
        movq    %rsp, %rbx
        andq    $-EMU_VCPU_BYTES, %rbx
        leaq    RING3_STACK_OFFSET(%rbx), %rsp
        movl    $0, VCPU_user_root(%rbx)        /* Stopped at the last moment. */
        movq    %rbx, %rdi
        call    prepare_exit
exit_critical:
        .globl  exit_critical
        cmpl    $0, VCPU_irq_pending(%rbx)
        jne     exit_again
#define GUEST(reg) (FRAME_OFFSET + FRAME_##reg)(%rbx), %reg
        movq    GUEST(r15)
        movq    GUEST(r14)
        movq    GUEST(r13)
        movq    GUEST(r12)
        movq    GUEST(rbp)
        movq    GUEST(r11)
        movq    GUEST(r10)
        movq    GUEST(r9)
        movq    GUEST(r8)
        movq    GUEST(rdx)
        movq    GUEST(rsi)
        movq    GUEST(rdi)
        cmpl    $0, VCPU_exit_via(%rbx)         /* EXIT_RING0 */
        je      1f
        movl    %ss, %eax                       /* What ring 3 really has: */
        pushq   %rax                            /* not what IRET was told. */
        pushq   (FRAME_OFFSET + FRAME_rsp)(%rbx)
        pushq   (FRAME_OFFSET + FRAME_rflags)(%rbx)
        movl    %cs, %eax
        pushq   %rax
        pushq   (FRAME_OFFSET + FRAME_rip)(%rbx)
        movq    GUEST(rcx)
        movq    GUEST(rax)
        movq    GUEST(rbx)
        iretq
1:      movq    GUEST(rax)
        movq    %rax, (FRAME_OFFSET + FRAME_error_code)(%rbx)
        movq    GUEST(rcx)
        leaq    (RING0_STACK_OFFSET - 48)(%rbx), %rsp
        cmpl    $0, VCPU_in_kernel(%rbx)
        movq    GUEST(rbx)
        jne     ring0_exit_insn
        movl    $1, (VCPU_user_root - RING0_STACK_OFFSET + 48)(%rsp)
ring0_exit_insn:
        .globl  ring0_exit_insn
        hlt                                     /* #GP: ring0.S irets. */
exit_critical_end:
        .globl  exit_critical_end
END(exit_again)

/* From ring0_iret_refused; as iret_refused. */
FUNC(iret_refused_ring3)
        movq    %rsp, %rdi
        andq    $-EMU_VCPU_BYTES, %rdi
        call    iret_fault
        jmp     exit_again
END(iret_refused_ring3)

/* uint64_t ring0_call(op %rdi, a1 %rsi, a2 %rdx).  Clobbers %rcx, %rdx. */
FUNC(ring0_call)
        leaq    ring0_table(%rip), %rax
        movq    (%rax, %rdi, 8), %rax
ring0_call_insn:
        .globl  ring0_call_insn
        hlt                                     /* #GP: ring0.S does op. */
        ret
END(ring0_call)

/* --------------------------------------------------------------- both ---- */

/*
 * int copy_user(void *to %rdi, const void *from %rsi, uint64_t bytes %rdx)
 * Returns 0, or -EFAULT (14) when a page was not there.
 */
FUNC(copy_user)
        movq    %rdx, %rcx
        xorl    %eax, %eax
        cmpq    $8, %rdx
        je      3f
1:      rep movsb
        ret
3:      movq    (%rsi), %rdx
4:      movq    %rdx, (%rdi)
        ret
2:      movl    $-14, %eax
        ret
        EXTABLE 1b, 2b
        EXTABLE 3b, 2b
        EXTABLE 4b, 2b
END(copy_user)

FUNC(memcpy)
        movq    %rdi, %rax
        movq    %rdx, %rcx
        rep movsb
        ret
END(memcpy)

FUNC(memset)
        movq    %rdi, %r8
        movl    %esi, %eax
        movq    %rdx, %rcx
        rep stosb
        movq    %r8, %rax
        ret
END(memset)

        .section .note.GNU-stack, "", @progbits
