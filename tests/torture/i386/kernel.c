/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ways into the kernel: int 0x80, the vDSO's, and being traced through them. */
#include "i386.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long call_int80(long nr, long a, long b, long c)
{
    __asm__ volatile("int $0x80"
                     : "+a"(nr)
                     : "b"(a), "c"(b), "d"(c)
                     : "memory");
    return nr;
}

/* As glibc does: what the kernel says in AT_SYSINFO is right for this CPU. */
static long call_vdso(long nr, long a, long b, long c)
{
    unsigned long entry = getauxval(AT_SYSINFO);

    __asm__ volatile("call *%1"
                     : "+a"(nr)
                     : "S"(entry), "b"(a), "c"(b), "d"(c)
                     : "memory");
    return nr;
}

/* With a sixth argument, which the fast ways take from the stack. */
static void *map_by_vdso(void)
{
    unsigned long entry = getauxval(AT_SYSINFO);
    long rc = SYS_mmap2;

    __asm__ volatile("push %%ebp\n\tpush %1\n\txor %%ebp, %%ebp\n\t"
                     "call *(%%esp)\n\tadd $4, %%esp\n\tpop %%ebp"
                     : "+a"(rc)
                     : "r"(entry), "b"(0), "c"(PAGE),
                       "d"(PROT_READ | PROT_WRITE),
                       "S"(MAP_PRIVATE | MAP_ANONYMOUS), "D"(-1)
                     : "memory");
    return (void *)rc;
}

static volatile sig_atomic_t nr_alarms;
static int ends[2];

static void on_alarm(int number)
{
    (void)number;
    nr_alarms++;
    if (write(ends[1], "x", 1) != 1)
        _exit(1);
}

/* A read that a signal interrupts, whose handler writes what it waits for. */
static void restarted(void)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval soon = {.it_value = {0, 20000}};
    char byte = 0;

    if (pipe(ends))
        return;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    result("restarted read", call_vdso(SYS_read, ends[0], (long)&byte, 1));
    result("restarted read, byte", byte);
    result("restarted read, signals", nr_alarms);
}

void ways_in(void)
{
    unsigned char *page;
    struct timespec last = {0, 0}, now;
    long bad = 0, back = 0;

    result("int 0x80 getpid", call_int80(SYS_getpid, 0, 0, 0) == getpid());
    result("int 0x80 unknown", call_int80(9999, 0, 0, 0));
    result("vDSO", getauxval(AT_SYSINFO) && getauxval(AT_SYSINFO_EHDR));
    result("vDSO getpid", call_vdso(SYS_getpid, 0, 0, 0) == getpid());
    result("vDSO unknown", call_vdso(9999, 0, 0, 0));
    result("vDSO write nowhere", call_vdso(SYS_write, 1, 8, 8));
    for (int i = 0; i < 2000; i++)
        bad +=
            call_vdso(SYS_getppid, 0, 0, 0) != call_int80(SYS_getppid, 0, 0, 0);
    result("both agree", bad);
    page = map_by_vdso();
    page[5] = 77;
    result("vDSO with six arguments", page[5] + page[6]);
    restarted();
    for (int i = 0; i < 2000; i++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        back += now.tv_sec < last.tv_sec ||
                (now.tv_sec == last.tv_sec && now.tv_nsec < last.tv_nsec);
        last = now;
    }
    result("time ran backwards", back);
}

/* --- traced --------------------------------------------------------------------- */

__attribute__((noinline)) static void stepped(void)
{
    __asm__ volatile("mov $100, %%ecx\n"
                     "1: dec %%ecx\n"
                     "jnz 1b\n"
                     "mov $20, %%eax\n" /* getpid */
                     "int $0x80\n"
                     "push %%es; pop %%es; pushl %%ds; popl %%ds\n"
                     "int3\n" ::
                         : "eax", "ecx", "memory");
}

static void steps(void)
{
    struct user_regs_struct regs;
    long count = 0;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        __asm__ volatile("int3");
        stepped();
        _exit((int)(call_vdso(SYS_getpid, 0, 0, 0) != getpid()) + 7);
    }
    waitpid(pid, &status, 0);
    result("trace stop", WIFSTOPPED(status) ? WSTOPSIG(status) : -1);
    do {
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        waitpid(pid, &status, 0);
        count++;
        ptrace(PTRACE_GETREGS, pid, 0, &regs);
    } while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP &&
             (ptrace(PTRACE_PEEKTEXT, pid, regs.eip, 0) & 0xff) != 0xcc);
    result("single steps", count);
    result("in 32 bits", (long)(regs.xcs & 0xffff));
    ptrace(PTRACE_CONT, pid, 0, 0);
    waitpid(pid, &status, 0);
    result("breakpoint", WIFSTOPPED(status) ? WSTOPSIG(status) : -1);
    /* Every instruction to its end, the vDSO's way in among them. */
    while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP) {
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        waitpid(pid, &status, 0);
    }
    result("traced exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* Stops at each call's begin and end; the number is changed on the way. */
static void changed_calls(void)
{
    struct user_regs_struct regs;
    long stops = 0;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit((int)call_vdso(9000, 5, 6, 7) + (int)call_int80(9001, 1, 2, 3));
    }
    waitpid(pid, &status, 0);
    for (;;) {
        ptrace(PTRACE_SYSCALL, pid, 0, 0);
        waitpid(pid, &status, 0);
        if (!WIFSTOPPED(status))
            break;
        ptrace(PTRACE_GETREGS, pid, 0, &regs);
        if (regs.orig_eax != 9000 && regs.orig_eax != 9001)
            continue;
        stops++;
        if (regs.eax == -ENOSYS && stops % 2 == 1)
            result("arguments", regs.ebx * 100 + regs.ecx * 10 + regs.edx);
        if (stops % 2 == 0) {
            regs.eax = 20 + stops;
            ptrace(PTRACE_SETREGS, pid, 0, &regs);
        }
    }
    result("call stops", stops);
    result("changed results", WEXITSTATUS(status));
}

void traced(void)
{
    steps();
    changed_calls();
}
