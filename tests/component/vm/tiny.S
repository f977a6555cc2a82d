/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PV kernel of one page for tests of the VM process: it prints "hello" and
 * does what the first letter of its command line says.
 *
 *   p r c  shut down: poweroff, reboot, crash
 *   i      block, with nothing to wait for
 *   s      spin
 *   u      an invalid instruction, with no trap table set
 *   e      echo what is typed, until a dot
 */
#define START_INFO_CONSOLE_PORT 80
#define START_INFO_CMDLINE 128
#define CONSOLE_PAGE 0x2000 /* two pages behind start_info */
#define CONSOLE_OUT 1024
#define CONSOLE_IN_CONS 3072
#define CONSOLE_IN_PROD 3076
#define CONSOLE_OUT_PROD 3084

#define SCHED_OP 29
#define EVENT_CHANNEL_OP 32

        .text
        .globl  _start, spin
_start: cld
        mov     %rsi, %rbx                      /* start_info */
        lea     CONSOLE_PAGE(%rsi), %rbp
        lea     hello(%rip), %r12
1:      mov     (%r12), %al
        test    %al, %al
        jz      2f
        call    print
        inc     %r12
        jmp     1b
2:      call    notify
        mov     START_INFO_CMDLINE(%rbx), %al
        xor     %r13d, %r13d                    /* SHUTDOWN_poweroff */
        cmp     $'p', %al
        je      shutdown
        inc     %r13d                           /* SHUTDOWN_reboot */
        cmp     $'r', %al
        je      shutdown
        mov     $3, %r13d                       /* SHUTDOWN_crash */
        cmp     $'c', %al
        je      shutdown
        cmp     $'i', %al
        je      idle
        cmp     $'u', %al
        je      invalid
        cmp     $'e', %al
        je      echo
spin:   jmp     spin

invalid:
        ud2

idle:   mov     $SCHED_OP, %eax
        mov     $1, %edi                        /* SCHEDOP_block */
        call    hypercall
        jmp     idle

echo:   mov     CONSOLE_IN_CONS(%rbp), %eax
        cmp     CONSOLE_IN_PROD(%rbp), %eax
        jne     1f
        xor     %edi, %edi                      /* SCHEDOP_yield */
        mov     $SCHED_OP, %eax
        call    hypercall
        jmp     echo
1:      and     $1023, %eax
        mov     (%rbp, %rax), %al
        incl    CONSOLE_IN_CONS(%rbp)
        xor     %r13d, %r13d
        cmp     $'.', %al
        je      shutdown
        call    print
        call    notify
        jmp     echo

/* %al to the console ring, which has room for all that we ever print. */
print:  mov     CONSOLE_OUT_PROD(%rbp), %ecx
        and     $2047, %ecx
        mov     %al, CONSOLE_OUT(%rbp, %rcx)
        incl    CONSOLE_OUT_PROD(%rbp)
        ret

notify: push    START_INFO_CONSOLE_PORT(%rbx)
        mov     $EVENT_CHANNEL_OP, %eax
        mov     $4, %edi                        /* EVTCHNOP_send */
        mov     %rsp, %rsi
        call    hypercall
        pop     %rcx
        ret

/* %r13d: the reason. */
shutdown:
        push    %r13
        mov     $SCHED_OP, %eax
        mov     $2, %edi                        /* SCHEDOP_shutdown */
        mov     %rsp, %rsi
        call    hypercall
        jmp     spin

/* Clobbers %rcx and %r11, as the instruction does. */
hypercall:
        syscall
        ret

hello:  .asciz  "hello\n"

        .macro  note type:req, size:req, value:vararg
        .pushsection .note.Xen, "a", @note
        .balign 4
        .long   4, \size, \type
        .asciz  "Xen"
        \value
        .balign 4
        .popsection
        .endm

        note    1, 8, .quad _start                      /* ENTRY */
        note    3, 8, .quad 0xffffffff80000000          /* VIRT_BASE */
        note    4, 8, .quad 0xffffffff80000000          /* PADDR_OFFSET */
        note    5, 8, .asciz "xen-3.0"                  /* XEN_VERSION */
        note    6, 5, .asciz "tiny"                     /* GUEST_OS */
        note    8, 8, .asciz "generic"                  /* LOADER */
        note    9, 4, .asciz "yes"                      /* PAE_MODE */
        .section .note.GNU-stack, "", @progbits
