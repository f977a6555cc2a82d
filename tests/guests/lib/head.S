/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Notes, entry point, hypercalls, and one entry stub per vector. */
#include <xen/elfnote.h>
#include "tests/guests/lib/flavour.h"

#define HYPERVISOR_IRET 23
#define NR_ENTRIES 261

/* Vectors that come with an error code (SDM vol 3, table 6-1). */
#define HAS_ERROR_CODE(n)                                                   \
    ((n) == 8 || ((n) >= 10 && (n) <= 14) || (n) == 17 || (n) == 21)

.macro ELFNOTE type, directive, value:vararg
        .pushsection .note.Xen, "a", @note
        .balign 4
        .long   2f - 1f, 4f - 3f, \type
1:      .asciz  "Xen"
2:      .balign 4
3:      \directive \value
4:      .balign 4
        .popsection
.endm

        ELFNOTE XEN_ELFNOTE_GUEST_OS, .asciz, "xenner-test"
        ELFNOTE XEN_ELFNOTE_GUEST_VERSION, .asciz, "1"
        ELFNOTE XEN_ELFNOTE_XEN_VERSION, .asciz, "xen-3.0"
        ELFNOTE XEN_ELFNOTE_LOADER, .asciz, "generic"
        ELFNOTE XEN_ELFNOTE_VIRT_BASE, .quad, GUEST_VIRT_BASE
        ELFNOTE XEN_ELFNOTE_ENTRY, .quad, _start
        ELFNOTE XEN_ELFNOTE_FEATURES, .asciz, "!writable_page_tables"
        ELFNOTE XEN_ELFNOTE_PAE_MODE, .asciz, "yes"
#if GUEST_HYPERCALL_PAGE
        ELFNOTE XEN_ELFNOTE_HYPERCALL_PAGE, .quad, hypercall_page
#endif
#if GUEST_INIT_P2M
        ELFNOTE XEN_ELFNOTE_INIT_P2M, .quad, GUEST_INIT_P2M
#endif
#if GUEST_MOD_START_PFN
        ELFNOTE XEN_ELFNOTE_MOD_START_PFN, .quad, 1
#endif

        .section .text.head, "ax"
/* %rsi: start_info, %rsp: the builder's stack. */
        .globl  _start
_start:
        cld
        movq    %rsp, boot_rsp(%rip)
        movq    %rsi, start_info(%rip)
        leaq    boot_stack_end(%rip), %rsp
        xorl    %ebp, %ebp
        call    start
        ud2

/* The hypervisor fills it; until then and without the note it is ud2. */
        .section .text.hypercall_page, "ax"
        .globl  hypercall_page
hypercall_page:
        .fill   2048, 2, 0x0b0f

        .section .rodata
        .globl  has_hypercall_page, virt_base
        .balign 8
virt_base:
        .quad   GUEST_VIRT_BASE
has_hypercall_page:
        .byte   GUEST_HYPERCALL_PAGE

        .text
/* int64_t hypercall(nr %rdi, a1 %rsi, a2 %rdx, a3 %rcx, a4 %r8, a5 %r9) */
        .globl  hypercall, hypercall_syscall
hypercall:
#if GUEST_HYPERCALL_PAGE
        movl    %edi, %eax
        cmpl    $128, %eax
        jae     hypercall_syscall               /* not in the page */
        shll    $5, %eax
        leaq    hypercall_page(%rip), %r11
        addq    %rax, %r11
        movq    %rsi, %rdi
        movq    %rdx, %rsi
        movq    %rcx, %rdx
        movq    %r8, %r10
        movq    %r9, %r8
        call    *%r11
        ret
#endif
hypercall_syscall:
        movq    %rdi, %rax
        movq    %rsi, %rdi
        movq    %rdx, %rsi
        movq    %rcx, %rdx
        movq    %r8, %r10
        movq    %r9, %r8
        syscall
        ret

/*
 * One stub per vector. Xen pushed {rcx, r11, [error code], rip, cs, rflags,
 * rsp, ss}; what is left after the pops is the hardware's own frame.
 */
.macro STUB n
        .balign 32
        popq    %rcx
        popq    %r11
    .if \n == 258                               /* failsafe: ds es fs gs */
        addq    $32, %rsp
    .endif
    .if !HAS_ERROR_CODE(\n)
        pushq   $0
    .endif
        pushq   $\n
        jmp     trap_common
.endm

        .balign 32
        .globl  trap_stubs
trap_stubs:
        .altmacro
        .set    vector, 0
        .rept   NR_ENTRIES
        STUB    %vector
        .set    vector, vector + 1
        .endr
        .noaltmacro

trap_common:
        pushq   %rdi
        pushq   %rsi
        pushq   %rdx
        pushq   %rcx
        pushq   %rax
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
        cld
        movq    %rsp, %rdi
        movq    %rsp, %rbp
        andq    $-16, %rsp
        call    trap_handler
        movq    %rbp, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rax
        popq    %rcx
        popq    %rdx
        popq    %rsi
        popq    %rdi
        addq    $16, %rsp                       /* vector, error code */
        pushq   $0                              /* flags: all registers */
do_iret:
#if GUEST_HYPERCALL_PAGE
        jmp     hypercall_page + HYPERVISOR_IRET * 32
#else
        pushq   %rcx
        pushq   %r11
        pushq   %rax
        movl    $HYPERVISOR_IRET, %eax
        syscall
        ud2
#endif

/*
 * uint64_t user_enter(struct iret_context *%rdi, uint64_t arg %rsi)
 * Leaves through user_leave, which takes the callee-saved registers back.
 */
        .globl  user_enter, user_leave_asm
user_enter:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, user_saved_rsp(%rip)
        movq    %rdi, %rsp
        movq    %rsi, %rdi
        movl    $HYPERVISOR_IRET, %eax
        syscall
        ud2

user_leave_asm:
        movq    %rdi, %rax
        movq    user_saved_rsp(%rip), %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

/* Where user functions return to: ends user mode with their result. */
        .section .user.text, "ax"
        .globl  user_return
user_return:
        movq    %rax, %rdi
        movl    $0x7e57, %eax                   /* USER_EXIT */
        syscall
        ud2

        .bss
        .balign 16
        .globl  start_info, boot_rsp
start_info:
        .quad   0
boot_rsp:
        .quad   0
user_saved_rsp:
        .quad   0
        .balign 4096
        .fill   16384
boot_stack_end:

        .section .note.GNU-stack, "", @progbits
