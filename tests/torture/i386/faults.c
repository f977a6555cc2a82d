/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Faults and what signal handlers make of them; deaths. */
#include "i386.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t nr_faults, fault_signal, fault_code, fault_trap;

/* Skips the two bytes of the instruction, and says so in %eax. */
static void skip_two(int number, siginfo_t *info, void *context)
{
    ucontext_t *c = context;

    nr_faults++;
    fault_signal = number;
    fault_code = info->si_code;
    fault_trap = c->uc_mcontext.gregs[REG_TRAPNO];
    c->uc_mcontext.gregs[REG_EIP] += 2;
    c->uc_mcontext.gregs[REG_EAX] = 0x1234;
}

static void on_write(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    nr_faults++;
    mprotect((void *)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1)), PAGE,
             PROT_READ | PROT_WRITE);
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *))
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_sigaction = handler,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigaltstack(&alternate, NULL);
    sigaction(number, &action, NULL);
}

static void tell(const char *name, long eax)
{
    result(name, eax == 0x1234 ? fault_signal * 100 + fault_trap : eax);
}

#define SKIPPED(name, insn)                           \
    do {                                              \
        long eax = 0;                                 \
        __asm__ volatile(insn : "+a"(eax)::"memory"); \
        tell(name, eax);                              \
    } while (0)

void faults32(void)
{
    volatile char *p =
        mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    handle(SIGSEGV, on_write);
    nr_faults = 0;
    for (int i = 0; i < 16; i++)
        p[i * PAGE + i] = (char)i;
    result("segv handled", nr_faults);
    handle(SIGSEGV, skip_two);
    handle(SIGILL, skip_two);
    handle(SIGTRAP, skip_two);
    SKIPPED("ud2", "ud2");
    SKIPPED("int 0x81", "int $0x81");
    SKIPPED("int 0x20", "int $0x20");
    SKIPPED("hlt", "hlt; nop");
    SKIPPED("cli", "cli; nop");
    SKIPPED("in", "in $0x60, %%al");
    SKIPPED("null", "xor %%eax, %%eax; movb (%%eax), %%al");
    SKIPPED("into", "movb $0x7f, %%al; incb %%al; into; nop; nop");
    SKIPPED("a selector", "movl $0x1233, %%eax; movl %%eax, %%es");
    SKIPPED("a kernel's selector", "movl $0x10, %%eax; movl %%eax, %%ss");
    signal(SIGSEGV, SIG_DFL);
    signal(SIGILL, SIG_DFL);
    signal(SIGTRAP, SIG_DFL);
}

#define DIES(name, insn)                     \
    static void name(void)                   \
    {                                        \
        __asm__ volatile(insn ::: "memory"); \
    }

DIES(die_cr3, "mov %%cr3, %%eax")
DIES(die_far, "ljmp $0x1233, $0")
DIES(die_far_kernel, "ljmp $0x10, $0")
DIES(die_gate, "lcall $7, $0")
DIES(die_stack, "mov $0x1000, %%esp; push %%eax")
DIES(die_no_stack, "xor %%esp, %%esp; int3")
DIES(die_bound, "push $0; push $0; mov $9, %%eax; bound %%eax, (%%esp)")
DIES(die_syscall, "xor %%esp, %%esp; xor %%ebp, %%ebp; mov $20, %%eax; syscall")
DIES(die_syscall_hole, "mov $0xfffffffc, %%esp; mov $1, %%ebp; syscall")
DIES(die_sysenter, "xor %%esp, %%esp; xor %%ebp, %%ebp; sysenter")
DIES(die_sysenter_tf, "pushfl; orl $0x44500, (%%esp); popfl; xor %%ebp, %%ebp; "
                      "sysenter")
DIES(die_end, "mov $0xffffffff, %%eax; mov (%%eax), %%eax")
DIES(die_jump, "mov $0xfffff000, %%eax; jmp *%%eax")

static void die_divide(void)
{
    volatile int zero = 0;
    volatile int value = 7 / zero;

    (void)value;
}

void deaths32(void)
{
    result("signal: divide", death(die_divide));
    result("signal: mov cr3", death(die_cr3));
    result("signal: far jump", death(die_far));
    result("signal: far jump, kernel's", death(die_far_kernel));
    result("signal: call gate", death(die_gate));
    result("signal: stack", death(die_stack));
    result("signal: no stack", death(die_no_stack));
    result("signal: bound", death(die_bound));
    /* Which one is the processor's and the kernel's to choose. */
    result("syscall without a stack", death(die_syscall) > 0);
    result("syscall at the end", death(die_syscall_hole) > 0);
    result("sysenter without a stack", death(die_sysenter) > 0);
    result("sysenter with all flags", death(die_sysenter_tf) > 0);
    result("signal: last byte", death(die_end));
    result("signal: jump to the end", death(die_jump));
}

/* --- what a handler returns to that cannot be --------------------------------------- */

static int bad_register, bad_value;

static void spoil(int number, siginfo_t *info, void *context)
{
    ucontext_t *c = context;

    (void)number;
    (void)info;
    signal(SIGSEGV, SIG_DFL);
    c->uc_mcontext.gregs[bad_register] = bad_value;
}

static void die_spoilt(void)
{
    handle(SIGUSR1, spoil);
    raise(SIGUSR1);
}

void returns(void)
{
    static const struct {
        const char *name;
        int reg, value;
    } cases[] = {
        {"return: cs 0", REG_CS, 0},
        {"return: no such cs", REG_CS, 0x1233},
        {"return: data as cs", REG_CS, 0x2b},
        {"return: no such ss", REG_SS, 0x1233},
        {"return: eip at the end", REG_EIP, (int)0xffffffff},
        {"return: no such gs", REG_GS, 0x1233},
        {"return: flags", REG_EFL, (int)0xffffffff & ~0x100},
    };

    for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bad_register = cases[i].reg;
        bad_value = cases[i].value;
        result(cases[i].name, death(die_spoilt));
    }
}
