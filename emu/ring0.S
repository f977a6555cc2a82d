/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ring 0 where it is slow (EMU_QUIRK_SLOW_RING0): every instruction here is
 * interpreted by KVM at roughly 200 cycles, so ring 0 only
 *
 *   - hands a trap of the guest down to trap_ring3 (descend),
 *   - does one privileged thing for emu's C (ring0_call, ring0_exit),
 *   - notes an interrupt in irq_pending.
 *
 * The stack is [.., RING0_STACK_OFFSET) of the vCPU's block: RSP0 points
 * there, so that the guest's frame at the end of the block survives traps
 * of emu's own ring 3 code. IF is clear in all of this but around hlt.
 *
 * Names of stack slots below are relative to the end of that stack.
 */
#include "abi/layout.h"
#include "emu/entry.h"
#include "emu/privileged.h"
#include "offsets.h"

#define RING0_STACK RING0_STACK_OFFSET
/* Field of the vCPU block when %rsp is n bytes below the ring 0 stack's end. */
#define AT(field, n) (VCPU_##field - RING0_STACK + (n))(%rsp)

/* With an error code slot at %rsp: */
#define E_RIP 8
#define E_CS 16
#define E_RSP 32
/* With vector and error code at %rsp: */
#define V_RIP 16
#define V_CS 24
#define V_RSP 40

        .text

/* Stubs of the vectors that have no entry of their own below. */
        .balign 16
        .globl  slow_stubs
slow_stubs:
        .set    vector, 0
        .rept   256
        .balign 16
        .if     !HAS_ERROR_CODE(vector)
        pushq   $0
        .endif
        pushq   $vector
        jmp     descend
        .set    vector, vector + 1
        .endr

/*
 * %rsp: vector slot, 56 bytes below the end. All registers the guest's.
 * Copies the seven words to the guest's frame and irets to trap_ring3 with
 * the guest kernel's root loaded.
 */
FUNC(descend)
        cmpl    $emu_high, (V_RIP + 4)(%rsp)
        je      fault_in_emu                    /* Ring 3 C or ring 0. */
descend_guest:
        leaq    (EMU_VCPU_BYTES - RING0_STACK + 56)(%rsp), %rsp
        .rept   7                               /* Slot to slot. */
        pushq   (RING0_STACK - EMU_VCPU_BYTES - 8)(%rsp)
        .endr
#define IN_FRAME(field) (VCPU_##field - EMU_VCPU_BYTES + 56)(%rsp)
        cmpl    $0, IN_FRAME(in_kernel)
        je      1f
        leaq    IN_FRAME(to_ring3), %rsp
        iretq
1:      movq    %rax, IN_FRAME(scratch_rax)
        movq    IN_FRAME(kernel_cr3), %rax      /* User root: emu is hidden */
        movq    %rax, %cr3                      /* from ring 3 there. */
        movq    IN_FRAME(scratch_rax), %rax
        leaq    IN_FRAME(to_ring3), %rsp
        iretq
END(descend)

/*
 * #PF: CR2 can be read at ring 0 only. A fault on an instruction fetch is
 * never emu's, wherever rip points: a guest process may jump to emu's
 * addresses, which its root hides. %rsp: error code slot.
 */
FUNC(slow_page_fault)
        pushq   $X86_TRAP_PF
        movq    %rax, AT(scratch_rax, 56)
        movq    %cr2, %rax
        testb   $0x10, 8(%rsp)                  /* PF_FETCH */
        jnz     1f
        cmpl    $emu_high, (V_RIP + 4)(%rsp)
        je      2f
1:      movq    %rax, AT(fault_cr2, 56)
        movq    AT(scratch_rax, 56), %rax
        jmp     descend_guest
2:      movq    AT(scratch_rax, 56), %rax
        jmp     fault_in_emu
END(slow_page_fault)

/* #GP: most are emu's own requests. %rsp: error code slot, 48 below. */
FUNC(slow_general_protection)
        cmpl    $emu_high, (E_RIP + 4)(%rsp)
        jne     2f
        cmpl    $ring0_exit_lo, E_RIP(%rsp)
        je      ring0_exit
        cmpl    $ring0_call_lo, E_RIP(%rsp)
        je      1f
2:      pushq   $X86_TRAP_GP
        jmp     descend
1:      leaq    ring0_table(%rip), %rax
        jmpq    *(%rax, %rdi, 8)
END(slow_general_protection)

/* Every general register is the guest's; its frame has the rest. */
FUNC(ring0_exit)
        pushq   %rax
        movq    AT(exit_cr3, 56), %rax
        movq    %rax, %cr3
        popq    %rax
        leaq    (EMU_VCPU_BYTES - 40 - RING0_STACK + 48)(%rsp), %rsp
        .globl  ring0_iret_to_guest
ring0_iret_to_guest:
        iretq
END(ring0_exit)

/* As iret_refused in entry.S: %rsp anywhere in the block. */
FUNC(ring0_iret_refused)
        andq    $-EMU_VCPU_BYTES, %rsp
        movq    VCPU_kernel_cr3(%rsp), %rax
        movq    %rax, %cr3
        leaq    RING3_STACK_OFFSET(%rsp), %rcx
        leaq    RING0_STACK(%rsp), %rsp
        pushq   $GUEST_SS64
        pushq   %rcx
        pushq   $(RFLAGS_IF | RFLAGS_FIXED)
        pushq   $GUEST_CS64
        leaq    iret_refused_ring3(%rip), %rax
        pushq   %rax
        iretq
END(ring0_iret_refused)

/* %rsp: vector slot; %rip in emu's image. Rare: C at ring 0 sorts it out. */
FUNC(fault_in_emu)
        PUSH_GPRS
        movq    %rsp, %rdi
        call    emu_trap
        POP_GPRS
        addq    $16, %rsp
        iretq
END(fault_in_emu)

/*
 * LAPIC interrupts. Note it, end it, and: from the guest descend; from emu
 * at ring 3 go back, to exit_again if it was about to enter the guest; from
 * ring 0 (hlt) go back.
 */
.macro IRQ name, vector, bit
FUNC(\name)
        pushq   $0
        pushq   $\vector
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        movl    $0x80b, %ecx                    /* x2APIC EOI */
        xorl    %eax, %eax
        xorl    %edx, %edx
        wrmsr
        movq    %rsp, %rcx                      /* hlt: deeper than AT(). */
        andq    $-EMU_VCPU_BYTES, %rcx
        orl     $\bit, VCPU_irq_pending(%rcx)
        .if     \bit == IRQ_TIMER                     /* Timer: arm the guess, */
        movq    VCPU_guess_tsc(%rcx), %rax      /* once: it may be past. */
        movq    %rax, VCPU_armed_tsc(%rcx)
        movq    $0, VCPU_guess_tsc(%rcx)
        movq    %rax, %rdx
        shrq    $32, %rdx
        movl    $0x6e0, %ecx                    /* TSC deadline; 0 disarms */
        wrmsr
        .endif
        popq    %rdx
        popq    %rcx
        popq    %rax
        cmpl    $emu_high, (V_RIP + 4)(%rsp)
        jne     descend
        jmp     irq_in_emu
END(\name)
.endm
        IRQ     slow_irq_timer, EMU_VECTOR_TIMER, IRQ_TIMER
        IRQ     slow_irq_evtchn, EMU_VECTOR_EVTCHN, IRQ_EVTCHN
        IRQ     slow_irq_ipi, EMU_VECTOR_IPI, IRQ_IPI

FUNC(slow_irq_spurious)
        iretq
END(slow_irq_spurious)

/* %rsp: vector slot. */
FUNC(irq_in_emu)
        cmpl    $exit_critical_lo, V_RIP(%rsp)
        jb      1f
        cmpl    $exit_critical_end_lo, V_RIP(%rsp)
        jae     1f
        movl    $exit_again_lo, V_RIP(%rsp)     /* High half is the same. */
        pushq   %rax
        leaq    (RING3_STACK_OFFSET - RING0_STACK + 64)(%rsp), %rax
        movq    %rax, (V_RSP + 8)(%rsp)
        popq    %rax
1:      addq    $16, %rsp
        iretq
END(irq_in_emu)

/*
 * What ring0_call() can ask for: %rsi, %rdx arguments, %rax result, %rcx and
 * %rdx may change. %rsp: error code slot, 48 below the end.
 */
        .macro  DONE
        incq    E_RIP(%rsp)                     /* Past the hlt. */
        addq    $8, %rsp
        iretq
        .endm

op_write_cr3:
        movq    %rsi, %cr3
        DONE
op_invlpg:
        invlpg  (%rsi)
        DONE
op_wrmsr:
        movl    %esi, %ecx
        movl    %edx, %eax
        shrq    $32, %rdx
        wrmsr
        DONE
op_halt:
        cmpl    $0, AT(irq_pending, 48)
        jne     1f
        sti
        hlt
        cli
1:      DONE
op_out:
        movl    %edx, %eax
        movl    %esi, %edx
        outl    %eax, %dx
        DONE
op_lldt:
        lldt    %si
        DONE
op_write_cr0:
        movq    %rsi, %cr0
        DONE
op_write_cr4:
        movq    %rsi, %cr4
        DONE
op_xsetbv:
        movl    %esi, %eax
        movq    %rsi, %rdx
        shrq    $32, %rdx
        xorl    %ecx, %ecx
        xsetbv
        DONE
op_write_dr:
        cmpl    $6, %esi
        je      6f
        ja      7f
        cmpl    $1, %esi
        je      1f
        jb      0f
        cmpl    $3, %esi
        je      3f
        movq    %rdx, %dr2
        DONE
0:      movq    %rdx, %dr0
        DONE
1:      movq    %rdx, %dr1
        DONE
3:      movq    %rdx, %dr3
        DONE
6:      movq    %rdx, %dr6
        DONE
7:      movq    %rdx, %dr7
        DONE
op_read_dr6:
        movq    %dr6, %rax
        DONE

        .section .rodata
        .balign 8
ring0_table:                                    /* Order of RING0_*. */
        .quad   op_write_cr3, op_invlpg, op_wrmsr, op_halt, op_out
        .quad   op_lldt, op_write_cr0, op_write_cr4, op_xsetbv, op_write_dr
        .quad   op_read_dr6
        .if     (. - ring0_table) / 8 != RING0_NR
        .error  "ring0_table and RING0_* differ"
        .endif

        .section .note.GNU-stack, "", @progbits
