/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going on after what an attempt did. The handler believes in nothing but its
 * stack: the segment bases, all registers and all flags may be anything.
 */
#include "fuzz.h"

#include <asm/prctl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define STACK_BYTES 0x20000UL
/* An attempt that takes so long hangs. */
#define LIMIT_S 1

int traps_left;
bool is_replay;
/* For the assembly below; 0: in no attempt. */
uint64_t attempt_rsp, attempt_fs;
uint64_t *nr_attempts;

void on_signal(int number);
void signal_return(void);

/* What a signal of ours does is as in `attempt`, which it ends. */
__asm__(".text\n"
        ".globl attempt\n"
        "attempt:\n"
        "    push %rbx; push %rbp\n"
        "    push %r12; push %r13; push %r14; push %r15\n"
        "    mov %rsp, attempt_rsp(%rip)\n"
        "    mov nr_attempts(%rip), %rax\n"
        "    lock incq (%rax)\n"
        "    mov %rdi, %rax\n"
        "    mov %rsi, %rdi\n"
        "    sub $8, %rsp\n"
        "    call *%rax\n"
        "    add $8, %rsp\n"
        "    xor %eax, %eax\n"
        "1:  cld\n"
        "    movq $0, attempt_rsp(%rip)\n"
        "    pop %r15; pop %r14; pop %r13; pop %r12\n"
        "    pop %rbp; pop %rbx\n"
        "    ret\n"
        ".globl on_signal\n"
        "on_signal:\n"
        "    push $0x202; popfq\n"
        "    cmp $5, %edi\n" /* SIGTRAP */
        "    jne 2f\n"
        "    decl traps_left(%rip)\n"
        "    js 2f\n"
        "    ret\n"
        "2:  mov %edi, %ebx\n"
        "    mov attempt_rsp(%rip), %rcx\n"
        "    test %rcx, %rcx\n"
        "    jz 3f\n"
        "    mov %rcx, %rsp\n"
        "    mov $158, %eax\n" /* arch_prctl */
        "    mov $0x1002, %edi\n"
        "    mov attempt_fs(%rip), %rsi\n"
        "    syscall\n"
        "    mov %ebx, %eax\n"
        "    jmp 1b\n"
        "3:  cmp $14, %edi\n" /* SIGALRM: too late */
        "    je 4f\n"
        "    mov $231, %eax\n" /* exit_group */
        "    mov $99, %edi\n"
        "    syscall\n"
        "4:  ret\n"
        ".globl signal_return\n"
        "signal_return:\n"
        "    mov $15, %eax\n"
        "    syscall\n");

/* The kernel's structure, not the library's: the return is ours. */
struct kernel_action {
    void (*handler)(int);
    uint64_t flags;
    void (*restorer)(void);
    uint64_t mask;
};

void attempts_init(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,
                                  SIGTRAP, SIGALRM, SIGSYS, SIGXCPU};
    struct itimerval every = {{LIMIT_S, 0}, {LIMIT_S, 0}};
    struct kernel_action action = {
        .handler = on_signal,
        .flags = SA_ONSTACK | SA_NODEFER | 0x04000000, /* SA_RESTORER */
        .restorer = signal_return,
    };
    stack_t alternate = {.ss_size = STACK_BYTES};

    alternate.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaltstack(&alternate, NULL);
    syscall(SYS_arch_prctl, ARCH_GET_FS, &attempt_fs);
    for (unsigned int i = 0; i < ARRAY_SIZE(signals); i++)
        syscall(SYS_rt_sigaction, signals[i], &action, NULL, 8);
    setitimer(ITIMER_REAL, &every, NULL);
}

void note(const char *format, ...)
{
    va_list args;

    if (!is_replay)
        return;
    va_start(args, format);
    vdprintf(2, format, args);
    va_end(args);
}
