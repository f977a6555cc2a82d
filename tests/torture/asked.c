/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a program asks its kernel for that the processor's own registers do:
 * no time stamps (CR4.TSD), selectors by ptrace, breakpoints (DR0 to DR7).
 * asked() is the same everywhere. armed() shows what takes effect, which a KVM
 * that runs ring 3 with the host's registers cannot all have.
 */
#include "torture.h"

#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REGISTER(name) offsetof(struct user, name)

/* --- time stamps --- */

/* Through the kernel, whose clock reads the time stamps itself. */
static void many_calls(void)
{
    struct timespec now;

    for (int i = 0; i < 1000; i++) {
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
        syscall(SYS_sched_yield);
    }
}

static void without_stamps(void)
{
    int how = 0;

    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
    many_calls();
    prctl(PR_GET_TSC, &how);
    if (how != PR_TSC_SIGSEGV)
        _exit(1);
    prctl(PR_SET_TSC, PR_TSC_ENABLE);
    _exit(__builtin_ia32_rdtsc() ? 2 : 3);
}

/* It takes the time stamps away, too. */
static void strict(void)
{
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
        _exit(1);
    for (int i = 0; i < 1000; i++)
        syscall(SYS_write, -1, "", 0);
    syscall(SYS_exit, 2);
}

static void stamp_refused(void)
{
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
    __builtin_ia32_rdtsc();
}

static void stamp_in_strict(void)
{
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    __builtin_ia32_rdtsc();
    syscall(SYS_exit, 0);
}

/* --- selectors --- */

static void stop_and_tell_selectors(void)
{
    unsigned int fs, gs, es, ds;

    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    __asm__ volatile("mov %%fs, %0; mov %%gs, %1; mov %%es, %2; mov %%ds, %3"
                     : "=r"(fs), "=r"(gs), "=r"(es), "=r"(ds));
    _exit((fs > 3) | (gs > 3) << 1 | (es > 3) << 2 | (ds > 3) << 3);
}

/* Exit status of a child whose selector was set while it stood still. */
static long poke(size_t at, long selector)
{
    pid_t pid = fork();
    long rc;

    if (pid == 0)
        stop_and_tell_selectors();
    wait_status(pid);
    rc = ptrace(PTRACE_POKEUSER, pid, at, selector);
    ptrace(PTRACE_DETACH, pid, 0, 0);
    return rc ? -1 : WEXITSTATUS(wait_status(pid));
}

static void selectors(void)
{
    static const long odd[] = {0,      3,      0x3f,   0xf,    0x7ff7, 0xffff,
                               0xe00b, 0xe013, 0xe043, 0xe053, 0x3,    0x33};
    static const size_t places[] = {REGISTER(regs.gs), REGISTER(regs.es),
                                    REGISTER(regs.ds)};
    long sum = 0;

    for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); p++)
        for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
            sum = sum * 3 + poke(places[p], odd[i]) % 251;
    result("selectors by ptrace", sum);
    result("gs 0x3f by ptrace", poke(REGISTER(regs.gs), 0x3f));
}

void asked(void)
{
    result("time stamps off and on", death(without_stamps));
    result("strict mode", death(strict));
    selectors();
}

/* --- what takes effect --- */

static volatile long watched;

static void write_watched(void)
{
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    watched = 1;
    _exit(0);
}

/* The signal at which a child stops when it writes what is watched. */
static long watch(void)
{
    pid_t pid = fork();
    int status;

    if (pid == 0)
        write_watched();
    wait_status(pid);
    ptrace(PTRACE_POKEUSER, pid, REGISTER(u_debugreg[0]), &watched);
    if (ptrace(PTRACE_POKEUSER, pid, REGISTER(u_debugreg[7]), 0xd0101))
        result("armed: refused", 1);
    ptrace(PTRACE_CONT, pid, 0, 0);
    status = wait_status(pid);
    if (WIFSTOPPED(status)) {
        ptrace(PTRACE_CONT, pid, 0, 0);
        wait_status(pid);
        return WSTOPSIG(status);
    }
    return 0;
}

static void read_fs_base(void)
{
    uint64_t base;

    __asm__ volatile("rdfsbase %0" : "=r"(base));
}

void armed(void)
{
    result("armed: time stamp", death(stamp_refused));
    result("armed: in strict mode", death(stamp_in_strict));
    result("armed: watchpoint", watch());
    result("armed: FSGSBASE", getauxval(AT_HWCAP2) >> 1 & 1);
    result("armed: rdfsbase", death(read_fs_base));
}
