/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ring 0 where it is slow (EMU_QUIRK_SLOW_RING0): KVM interprets it, at 2,000
 * to 3,000 cycles an instruction, so instructions are what is counted here,
 * and whatever ring 3 can do is left to it. Ring 0 only
 *
 *   - loads the guest kernel's root and goes down to entry.S (descend),
 *   - does one privileged thing for emu's C (ring0_call, ring0_exit),
 *   - ends an interrupt.
 *
 * RSP0 points at RING0_STACK_OFFSET of the vCPU's block: exceptions, the guest's
 * and those by which emu's ring 3 asks for something. Interrupts have an IST
 * entry, so that one may fall between a descent and the copy that ring 3 makes
 * of the exception's frame. It has two stacks. One that hit the guest leaves
 * its frame below irq_end for ring 3, too, and until that is copied, others
 * use the second: not every KVM holds the next interrupt back until the last
 * is ended (EOI). Those hit emu, and ring 0 alone deals with them.
 *
 * vcpu.user_root: CR3 holds guest user space's root. Ring 3 sets it in the
 * instruction before ring0_exit_insn, and it is cleared with the first change
 * of root after that. While it is set an address in emu's image is not emu: a
 * guest process can jump anywhere.
 *
 * IF is clear in all of this but around hlt.
 */
#include "abi/layout.h"
#include "emu/entry.h"
#include "emu/privileged.h"
#include "offsets.h"

#define RING0_STACK RING0_STACK_OFFSET
/* Field of the vCPU block when %rsp is n bytes below the ring 0 stack's end. */
#define AT(field, n) (VCPU_##field - RING0_STACK + (n))(%rsp)
/* Likewise, an interrupt's frame below irq_end. */
#define IRQ_AT(field) (VCPU_##field - VCPU_irq_end + 40)(%rsp)

/* With an error code slot at %rsp: */
#define E_RIP 8
#define E_RSP 32
/* With vector and error code at %rsp: */
#define V_RIP 16
#define V_CS 24

/* Clobbers %rax. n as AT()'s. */
.macro LOAD_KERNEL_ROOT n
        movl    $0, AT(user_root, \n)
        movq    AT(kernel_cr3, \n), %rax
        movq    %rax, %cr3
.endm

        .text

/*
 * Stubs of the vectors that have no entry of their own below. Those that an
 * iretq of our own can raise while the user's root is loaded look at the ring
 * first. The address would not do: a far transfer to 32-bit code takes any
 * process to one of emu's, and raises #GP there instead of fetching.
 */
#define IRETQ_RAISES(n) ((n) >= 10 && (n) <= 13)

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
        .if     IRETQ_RAISES(vector)
        jmp     descend_unless_emu
        .else
        jmp     descend
        .endif
        .set    vector, vector + 1
        .endr

/* %rsp: vector slot, 56 bytes below the end. All registers the guest's. */
FUNC(descend_unless_emu)
        testb   $3, V_CS(%rsp)
        jz      fault_in_emu
descend:
        cmpl    $0, AT(user_root, 56)
        je      1f
        pushq   %rax
        LOAD_KERNEL_ROOT 64
        leaq    AT(to_ring3_TRAP_RAX, 64), %rsp
        iretq
1:      cmpl    $emu_high, (V_RIP + 4)(%rsp)
        je      fault_in_emu
        leaq    AT(to_ring3_TRAP, 56), %rsp
        iretq
END(descend_unless_emu)

/*
 * #PF: CR2 can be read at ring 0 only. A fault on an instruction fetch is
 * never emu's, wherever rip points. %rsp: error code slot; %rax goes where
 * the vector would, and trap_page_fault knows.
 */
FUNC(slow_page_fault)
        pushq   %rax
        movq    %cr2, %rax
        cmpl    $0, AT(user_root, 56)
        je      1f
        movq    %rax, AT(fault_cr2, 56)
        LOAD_KERNEL_ROOT 56
        leaq    AT(to_ring3_PAGE_FAULT, 56), %rsp
        iretq
1:      testb   $PF_FETCH, 8(%rsp)
        jnz     2f
        cmpl    $emu_high, (V_RIP + 4)(%rsp)
        je      3f
2:      movq    %rax, AT(fault_cr2, 56)
        leaq    AT(to_ring3_PAGE_FAULT, 56), %rsp
        iretq
3:      popq    %rax
        pushq   $X86_TRAP_PF
        jmp     fault_in_emu
END(slow_page_fault)

/*
 * #GP: most are emu's own requests. %rsp: error code slot, 48 below the end;
 * the way out has set the stack pointer to just that, where a guest that is
 * sane never has its own. One that does and halts goes back to where it last
 * went on, as it could have done by itself.
 *
 * The second compare is of rip's three highest bytes and cs's lowest, which
 * says that it was 64-bit code: in any other a process has the rip it likes.
 * SYSCALL leaves cs alone there, so emu's C runs in whatever the guest's kernel
 * ran in: if that is a segment of its own, the root says that it is no process.
 */

FUNC(slow_general_protection)
        cmpq    %rsp, E_RSP(%rsp)
        je      ring0_exit
        cmpl    $ring0_call_lo, E_RIP(%rsp)
        jne     1f
        cmpl    $rip_end_cs64, (E_RIP + 5)(%rsp)
        je      2f
        cmpl    $0, AT(user_root, 48)           /* In the kernel's half? */
        jne     1f
        cmpl    $emu_high, (E_RIP + 4)(%rsp)
        jne     1f
2:      jmpq    *%rax                           /* ring0_call chose op_*. */
1:      pushq   $X86_TRAP_GP
        jmp     descend_unless_emu
END(slow_general_protection)

/* Every register but %rax is the guest's; its frame has the rest, and %rax
 * where the error code was. */
FUNC(ring0_exit)
        movq    AT(exit_cr3, 48), %rax
        movq    %rax, %cr3
        leaq    (FRAME_OFFSET + FRAME_error_code - RING0_STACK + 48)(%rsp), %rsp
        popq    %rax
        .globl  ring0_iret_to_guest
ring0_iret_to_guest:
        iretq
END(ring0_exit)

/* As iret_refused in entry.S: %rsp anywhere in the block. */
FUNC(ring0_iret_refused)
        andq    $-EMU_VCPU_BYTES, %rsp
        movq    VCPU_kernel_cr3(%rsp), %rax
        movq    %rax, %cr3
        movl    $0, VCPU_user_root(%rsp)
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

/* A SYSCALL that KVM has interpreted went to ring 0, like the processor's. Down,
 * with %rsp, the guest's frame, also in %rdi. */
FUNC(syscall_interpreted)
        andq    $-EMU_VCPU_BYTES, %rsp
        movl    $0, VCPU_user_root(%rsp)
        movq    VCPU_kernel_cr3(%rsp), %rax
        movq    %rax, %cr3
        leaq    RING0_STACK(%rsp), %rsp
        pushq   $GUEST_SS64
        pushq   %rdi
        pushq   $(RFLAGS_IF | RFLAGS_FIXED)
        pushq   $GUEST_CS64
        leaq    syscall_descended(%rip), %rax
        pushq   %rax
        iretq
END(syscall_interpreted)

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
 * LAPIC interrupts. From the guest: what is used here saved, the interrupt
 * ended, the timer's next tick armed (0 disarms), the stack changed for the
 * next interrupt, then down to ring 3, which does the rest. %rsp is 40 below
 * irq_end there; from emu it may be on the other stack.
 */
#define GUEST_FRAME_AT(field) \
        (FRAME_OFFSET + FRAME_##field - VCPU_irq_end + 40)(%rsp)
.macro END_OF_INTERRUPT
        movl    $MSR_X2APIC_EOI, %ecx
        xorl    %eax, %eax
        xorl    %edx, %edx
        wrmsr
.endm

/* eoi: it has to be ended. to: offset in the block of where to go down to.
 * The deadline's timer leaves the guest's rcx and rdx in its frame; the others
 * leave them where they are. */
.macro IRQ name, eoi, bit, to
FUNC(\name)
        cmpl    $emu_high, 4(%rsp)
        je      1f
        movq    %rax, GUEST_FRAME_AT(rax)
        .if     \eoi || \bit == IRQ_TIMER
        movq    %rcx, GUEST_FRAME_AT(rcx)
        movq    %rdx, GUEST_FRAME_AT(rdx)
        .endif
        movq    IRQ_AT(kernel_cr3), %rax
        movq    %rax, %cr3
        .if     \eoi
        END_OF_INTERRUPT
        .endif
        .if     \bit == IRQ_TIMER
        movl    IRQ_AT(guess_tsc), %eax
        movl    4 + IRQ_AT(guess_tsc), %edx
        movl    $MSR_TSC_DEADLINE, %ecx
        wrmsr
        .elseif \eoi
        movq    GUEST_FRAME_AT(rcx), %rcx
        movq    GUEST_FRAME_AT(rdx), %rdx
        .endif
        addl    $IRQ_STACK_BYTES, IRQ_AT(irq_ist)
        leaq    (\to - VCPU_irq_end + 40)(%rsp), %rsp
        iretq
1:      pushq   %rax
        pushq   %rcx
        pushq   %rdx
        .if     \eoi
        END_OF_INTERRUPT
        .endif
        movq    %rsp, %rcx
        andq    $-EMU_VCPU_BYTES, %rcx
        orl     $\bit, VCPU_irq_pending(%rcx)
        .if     \bit == IRQ_TIMER
        movq    VCPU_guess_tsc(%rcx), %rax
        movq    %rax, VCPU_armed_tsc(%rcx)
        movq    $0, VCPU_guess_tsc(%rcx)
        movq    %rax, %rdx
        shrq    $32, %rdx
        movl    $MSR_TSC_DEADLINE, %ecx
        wrmsr
        .endif
        popq    %rdx
        popq    %rcx
        popq    %rax
        jmp     irq_in_emu
END(\name)
.endm
        IRQ     slow_irq_timer, 1, IRQ_TIMER, VCPU_to_ring3_IRQ_TIMER
        IRQ     slow_irq_evtchn, 1, IRQ_EVTCHN, VCPU_to_ring3_IRQ_EVTCHN
        IRQ     slow_irq_ipi, 1, IRQ_IPI, VCPU_to_ring3_IRQ_IPI
        IRQ     slow_irq_tick, 1, IRQ_TICK, VCPU_to_ring3_IRQ_TICK
        IRQ     ended_irq_timer, 0, IRQ_TIMER, VCPU_to_ring3_IRQ_TIMER
        IRQ     ended_irq_evtchn, 0, IRQ_EVTCHN, VCPU_to_ring3_IRQ_EVTCHN
        IRQ     ended_irq_ipi, 0, IRQ_IPI, VCPU_to_ring3_IRQ_IPI
        IRQ     ended_irq_tick, 0, IRQ_TICK, VCPU_to_ring3_IRQ_TICK

/* Back to where emu was; to exit_again if it was about to enter the guest. */
FUNC(irq_in_emu)
        cmpl    $exit_critical_lo, (%rsp)
        jb      1f
        cmpl    $exit_critical_end_lo, (%rsp)
        jae     1f
        movl    $exit_again_lo, (%rsp)          /* High half is the same. */
        pushq   %rax
        movq    %rsp, %rax
        andq    $-EMU_VCPU_BYTES, %rax
        addq    $RING3_STACK_OFFSET, %rax
        movq    %rax, 32(%rsp)                  /* %rsp of the frame. */
        popq    %rax
1:      iretq
END(irq_in_emu)

/* For start.c's irq_in_service(). %rsi: the in-service bits of our vectors. */
FUNC(slow_irq_probe)
        movl    $MSR_X2APIC_ISR7, %ecx
        rdmsr
        movl    %eax, %esi
        END_OF_INTERRUPT
        iretq
END(slow_irq_probe)

FUNC(slow_irq_spurious)
        iretq
END(slow_irq_spurious)

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
1:      xsetbv
        xorl    %eax, %eax
        DONE
2:      movl    $1, %eax                        /* #GP: refused. */
        DONE
        EXTABLE 1b, 2b
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
        .globl  ring0_table
ring0_table:                                    /* Order of RING0_*. */
        .quad   op_write_cr3, op_invlpg, op_wrmsr, op_halt, op_out
        .quad   op_lldt, op_write_cr0, op_write_cr4, op_xsetbv, op_write_dr
        .quad   op_read_dr6
        .if     (. - ring0_table) / 8 != RING0_NR
        .error  "ring0_table and RING0_* differ"
        .endif

        .section .note.GNU-stack, "", @progbits
