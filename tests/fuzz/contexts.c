/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Contexts that nobody had: of a signal's return, of a traced process, of the
 * floating-point unit. */
#include "fuzz.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static uint64_t code_segment(void)
{
    static const uint16_t usual[] = {0x33, 0x23, 0xe033, 0xe023, 0xe02b, 0x7};

    return one_in(3) ? selector() : usual[below(ARRAY_SIZE(usual))];
}

/* MXCSR, the header, and where the kernel believes the sizes to stand. */
static void forge_fpu(uint8_t *area)
{
    static const uint16_t places[] = {0,   2,   24,  28,  464, 468, 472,
                                      480, 512, 520, 528, 536, 576};

    for (unsigned int i = 1 + below(4); i > 0; i--) {
        uint64_t value = word();

        memcpy(area + places[below(ARRAY_SIZE(places))], &value,
               one_in(2) ? 8 : 4);
    }
}

static void on_usr1(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    greg_t *g = u->uc_mcontext.gregs;

    (void)number;
    (void)info;
    for (int i = 0; i < 15; i++) {
        if (one_in(4))
            g[i] = (greg_t)word();
    }
    if (one_in(2))
        g[REG_RIP] = (greg_t)(one_in(3) ? address() : landing(one_in(2)));
    if (one_in(2))
        g[REG_EFL] = (greg_t)eflags();
    if (one_in(2))
        g[REG_CSGSFS] =
            (greg_t)(code_segment() | (uint64_t)selector() << 16 |
                     (uint64_t)selector() << 32 |
                     (uint64_t)(one_in(2) ? 0x2b : selector()) << 48);
    if (one_in(4))
        g[REG_RSP] = (greg_t)word();
    if (one_in(3))
        u->uc_flags ^= 1UL << below(3);
    if (one_in(3) && u->uc_mcontext.fpregs)
        forge_fpu((uint8_t *)u->uc_mcontext.fpregs);
    if (one_in(16))
        u->uc_mcontext.fpregs = (fpregset_t)word();
}

static void raise_usr1(void *unused)
{
    (void)unused;
    syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
}

void part_sigreturn(void)
{
    struct sigaction action = {.sa_sigaction = on_usr1,
                               .sa_flags = SA_SIGINFO | SA_NODEFER};

    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 48; i++) {
        traps_left = (int)below(6);
        attempt(raise_usr1, NULL);
        traps_left = 0;
    }
}

/* --- the floating-point unit --------------------------------------------------------- */

static uint8_t area[16384] __attribute__((aligned(64)));

static void use_fpu(void *unused)
{
    uint32_t mask = (uint32_t)any();

    (void)unused;
    switch (below(7)) {
    case 0: /* an exception that is pending over a switch */
        __asm__ volatile("fninit; push $0; fldcw (%%rsp); pop %%rax\n"
                         "fldz; fld1; fdivp\n"
                         "mov $24, %%eax; syscall; fwait" ::
                             : "rax", "rcx", "r11", "memory");
        break;
    case 1:
        __asm__ volatile("fxrstor %0; mov $24, %%eax; syscall" ::"m"(area)
                         : "rax", "rcx", "r11", "memory");
        break;
    case 2:
        __asm__ volatile("ldmxcsr %0; divps %%xmm1, %%xmm2; sqrtps %%xmm0, "
                         "%%xmm0" ::"m"(mask));
        break;
    case 3:
        __asm__ volatile("xor %%edx, %%edx; xrstor %0" ::"m"(area),
                         "a"(0x7 & mask)
                         : "rdx", "memory");
        break;
    case 4:
        __asm__ volatile("xrstor %0; mov $24, %%eax; syscall" ::"m"(area),
                         "a"(mask), "d"(one_in(2) ? 0 : mask)
                         : "rcx", "r11", "memory");
        break;
    case 5: /* all that there is, a page's end in between */
        __asm__ volatile("xsave %0" ::"m"(area), "a"(~0U), "d"(~0U) : "memory");
        break;
    default:
        __asm__ volatile(
            "fldenv %0; fldz; fsave %0; frstor %0; fwait" ::"m"(area));
    }
}

void part_fpu(void)
{
    for (int i = 0; i < 64; i++) {
        if (one_in(3))
            scribble(area, 1024);
        else if (one_in(2))
            memset(area + 512, 0, 64);
        forge_fpu(area);
        attempt(use_fpu, NULL);
    }
}

/* --- traced -------------------------------------------------------------------------- */

static void tracee(void)
{
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    for (;;) {
        __asm__ volatile("int3; mov $39, %%eax; syscall\n"
                         "mov $20, %%eax; int $0x80\n"
                         "pushfq; popfq; mov %%fs:0, %%rax\n" ::
                             : "rax", "rcx", "r11", "memory");
        attempt((void (*)(void *))landing(one_in(2)), NULL);
    }
}

static void poke_registers(pid_t child)
{
    struct user_regs_struct regs;

    if (ptrace(PTRACE_GETREGS, child, 0, &regs))
        return;
    for (unsigned int i = below(4); i > 0; i--)
        ((unsigned long *)&regs)[below(sizeof(regs) / 8)] = word();
    if (one_in(3))
        regs.cs = code_segment();
    if (one_in(3))
        regs.eflags = eflags();
    if (one_in(4))
        regs.rip = address();
    if (one_in(3))
        regs.gs = selector();
    if (one_in(3))
        regs.fs_base = word();
    ptrace(PTRACE_SETREGS, child, 0, &regs);
}

static void poke_fpu(pid_t child)
{
    struct iovec io = {.iov_base = area, .iov_len = sizeof(area)};

    ptrace(PTRACE_GETREGSET, child, one_in(2) ? 0x202 : 2, &io);
    forge_fpu(area);
    if (one_in(4))
        io.iov_len = below(sizeof(area));
    ptrace(PTRACE_SETREGSET, child, one_in(2) ? 0x202 : 2, &io);
}

/* DR0 to DR3 on what the child will meet, then DR7. */
static void poke_debug(pid_t child)
{
    size_t at = offsetof(struct user, u_debugreg);
    struct user_regs_struct regs = {0};

    ptrace(PTRACE_GETREGS, child, 0, &regs);
    ptrace(PTRACE_POKEUSER, child, at,
           one_in(3)   ? address()
           : one_in(2) ? regs.rip + below(12)
                       : regs.rsp - below(32));
    ptrace(PTRACE_POKEUSER, child, at + 7 * 8,
           one_in(3) ? any() & 0xffffffff : 1UL | (any() & 0xf) << 16);
    if (one_in(4))
        ptrace(PTRACE_POKEUSER, child, at + 8 * below(8), word());
}

static void poke(pid_t child)
{
    switch (below(7)) {
    case 0:
        poke_registers(child);
        break;
    case 1:
        poke_fpu(child);
        break;
    case 2:
    case 3:
        poke_debug(child);
        break;
    case 4:
        ptrace(PTRACE_POKEUSER, child, 8 * below(sizeof(struct user) / 8),
               word());
        break;
    case 5:
        ptrace(PTRACE_POKETEXT, child, LOW_CODE, any());
        break;
    default:
        ptrace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, gs),
               selector());
    }
}

void part_traced(void)
{
    static const int ways[] = {PTRACE_SINGLESTEP, PTRACE_SINGLESTEP,
                               PTRACE_SINGLESTEP, PTRACE_SYSCALL,
                               PTRACE_CONT,       33 /* SINGLEBLOCK */};
    pid_t child = fork();
    int status;

    if (child == 0)
        tracee();
    for (int i = 0; i < 150; i++) {
        if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
            return;
        ++*nr_attempts;
        if (one_in(4))
            poke(child);
        /* Its own handlers are part of it, most of the time. */
        ptrace(ways[below(ARRAY_SIZE(ways))], child, 0,
               WSTOPSIG(status) == SIGTRAP || one_in(2) ? 0 : WSTOPSIG(status));
    }
    if (one_in(2))
        ptrace(PTRACE_DETACH, child, 0, 0);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}
