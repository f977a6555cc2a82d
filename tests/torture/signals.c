/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals, faults, deaths, and being traced. */
#include "torture.h"

#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t nr_signals, nr_faults, depth, max_depth;
static volatile long fault_code;

static void count_signal(int number)
{
    (void)number;
    nr_signals++;
}

static void nested(int number)
{
    depth++;
    if (depth > max_depth)
        max_depth = depth;
    if (depth < 5) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, number);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        raise(number);
    }
    depth--;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    char *page = (char *)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1));

    (void)number;
    (void)context;
    nr_faults++;
    fault_code = info->si_code;
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
}

static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    sigaction(number, &action, NULL);
}

void signals(void)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};

    sigaltstack(&alternate, NULL);
    handle(SIGUSR1, count_signal, SA_ONSTACK);
    for (int i = 0; i < 1000; i++)
        raise(SIGUSR1);
    result("signals to self", nr_signals);
    handle(SIGUSR2, nested, 0);
    raise(SIGUSR2);
    result("signal depth", max_depth);
}

void faults(void)
{
    struct sigaction action = {
        .sa_sigaction = on_fault,
        .sa_flags = SA_SIGINFO,
    };
    volatile char *p =
        mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long sum = 0;

    sigaction(SIGSEGV, &action, NULL);
    for (int i = 0; i < 64; i++)
        p[i * PAGE + i] = (char)i;
    for (int i = 0; i < 64; i++)
        sum += p[i * PAGE + i];
    result("segv handled", nr_faults);
    result("segv code", fault_code);
    result("segv data", sum);
    munmap((void *)p, 64 * PAGE);
    signal(SIGSEGV, SIG_DFL);
}

static void die_null(void)
{
    *(volatile int *)8 = 1;
}

static void die_kernel(void)
{
    *(volatile long *)0xffffffff81000000 = 1;
}

/* Xen's hole: no user process may see anything there. */
static void die_hole(void)
{
    volatile long sum = *(volatile long *)0xffff808000010000;

    (void)sum;
}

static void die_hole_code(void)
{
    ((void (*)(void))0xffff808000010000)();
}

/* To 32-bit code there: #GP, with a saved rip that is in the hole. */
static void die_hole_32bit(void)
{
    __asm__ volatile("push %0; push $0; push $0x202; push $0x23; push %1\n"
                     "iretq" ::"r"(0x2bUL),
                     "r"(0xffff808000010000));
}

static uint64_t jumped_from;

/* Is the stack pointer of the context that which the process had? */
static void on_jump(int number, siginfo_t *info, void *context)
{
    const ucontext_t *u = context;

    (void)number;
    (void)info;
    _exit(u->uc_mcontext.gregs[REG_RSP] == (greg_t)jumped_from);
}

/* Into the code by which SYSCALL enters xenner, behind its first instruction:
 * what stood there of others must not become the process's. */
static void jump_into_entry(void)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {
        .sa_sigaction = on_jump,
        .sa_flags = SA_SIGINFO | SA_ONSTACK,
    };

    sigaltstack(&alternate, NULL);
    sigaction(SIGSEGV, &action, NULL);
    __asm__ volatile("mov %%rsp, %0; jmp *%1"
                     : "=m"(jumped_from)
                     : "r"(0xffff818000505107), "c"(0UL)
                     : "memory");
}

static void die_divide(void)
{
    volatile int zero = 0;
    volatile int value = 7 / zero; /* x86 raises, it does not wrap */

    (void)value;
}

static void die_undefined(void)
{
    __asm__ volatile("ud2");
}

static void die_privileged(void)
{
    __asm__ volatile("hlt");
}

static void die_cr3(void)
{
    uint64_t value;

    __asm__ volatile("mov %%cr3, %0" : "=r"(value));
}

static void die_port(void)
{
    __asm__ volatile("inb $0x60, %%al" ::: "rax");
}

static void die_canonical(void)
{
    volatile char *p = (volatile char *)0x8000000000000000;

    *p = 1;
}

static void die_trap(void)
{
    __asm__ volatile("int3");
}

static void die_int(void)
{
    __asm__ volatile("int $0x81");
}

static void die_stack(void)
{
    __asm__ volatile("mov $0x1000, %rsp; push %rax");
}

void deaths(void)
{
    result("signal: null", death(die_null));
    result("signal: kernel address", death(die_kernel));
    result("signal: hole", death(die_hole));
    result("signal: hole, code", death(die_hole_code));
    result("signal: hole, 32-bit", death(die_hole_32bit));
    result("jump into the hole", death(jump_into_entry));
    result("signal: divide", death(die_divide));
    result("signal: undefined", death(die_undefined));
    result("signal: hlt", death(die_privileged));
    result("signal: mov cr3", death(die_cr3));
    result("signal: in", death(die_port));
    result("signal: non-canonical", death(die_canonical));
    result("signal: int3", death(die_trap));
    result("signal: int 0x81", death(die_int));
    result("signal: stack", death(die_stack));
}

void timer_signals(void)
{
    struct itimerval every = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};

    nr_signals = 0;
    handle(SIGALRM, count_signal, SA_RESTART);
    setitimer(ITIMER_REAL, &every, NULL);
    while (nr_signals < 50)
        ;
    setitimer(ITIMER_REAL, &off, NULL);
    result("timer signals", nr_signals >= 50);
}

__attribute__((noinline)) static void stepped(void)
{
    __asm__ volatile("mov $100, %%ecx\n"
                     "1: dec %%ecx\n"
                     "jnz 1b\n"
                     "mov $39, %%eax\n" /* getpid */
                     "syscall\n"
                     "int3\n" ::
                         : "rax", "rcx", "r11", "memory");
}

void single_steps(void)
{
    long steps = 0;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        __asm__ volatile("int3");
        stepped();
        _exit(7);
    }
    waitpid(pid, &status, 0);
    result("trace stop", WIFSTOPPED(status) ? WSTOPSIG(status) : -1);
    for (;;) {
        struct user_regs_struct regs;
        unsigned char opcode;

        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        waitpid(pid, &status, 0);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
            break;
        steps++;
        ptrace(PTRACE_GETREGS, pid, 0, &regs);
        opcode = (unsigned char)ptrace(PTRACE_PEEKTEXT, pid, regs.rip, 0);
        if (opcode == 0xcc) /* the int3 at the end of stepped() */
            break;
    }
    /* Calls around the loop differ by compiler, not by machine. */
    result("single steps", steps);
    ptrace(PTRACE_CONT, pid, 0, 0);
    waitpid(pid, &status, 0);
    result("breakpoint", WIFSTOPPED(status) ? WSTOPSIG(status) : -1);
    ptrace(PTRACE_CONT, pid, 0, 0);
    result("traced exit", WEXITSTATUS(wait_status(pid)));
}
