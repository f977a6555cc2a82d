/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 32-bit user space without a library, and so without floating point: what runs
 * on a KVM that interprets such code as well. Output as torture.h has it.
 */
#include <stdint.h>

#define SYS_exit 1
#define SYS_fork 2
#define SYS_read 3
#define SYS_write 4
#define SYS_waitpid 7
#define SYS_execve 11
#define SYS_getpid 20
#define SYS_kill 37
#define SYS_pipe 42
#define SYS_rt_sigaction 174
#define SYS_set_thread_area 243

#define SIGUSR1 10
#define SA_RESTORER 0x04000000
#define AT_SYSINFO 32

static long call(long nr, long a, long b, long c)
{
    __asm__ volatile("int $0x80"
                     : "+a"(nr)
                     : "b"(a), "c"(b), "d"(c)
                     : "memory");
    return nr;
}

/* For calls of four arguments. */
static long call4(long nr, long a, long b, long c, long d)
{
    __asm__ volatile("int $0x80"
                     : "+a"(nr)
                     : "b"(a), "c"(b), "d"(c), "S"(d)
                     : "memory");
    return nr;
}

static void result(const char *name, long value)
{
    unsigned long rest = (unsigned long)(value < 0 ? -value : value);
    char line[48], digits[12];
    int n = 0, length = 0;

    while (name[length]) {
        line[length] = name[length];
        length++;
    }
    while (length < 29)
        line[length++] = ' ';
    if (value < 0)
        line[length++] = '-';
    do {
        digits[n++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    while (n)
        line[length++] = digits[--n];
    line[length++] = '\n';
    call(SYS_write, 1, (long)line, length);
}

/* The signal that ended it, or minus its exit status. */
static long wait_for(long pid)
{
    int status = -1;

    call(SYS_waitpid, pid, (long)&status, 0);
    return status & 0x7f ? status & 0x7f : -(status >> 8 & 0xff);
}

static long death(void (*how)(void))
{
    long pid = call(SYS_fork, 0, 0, 0);

    if (pid == 0) {
        how();
        call(SYS_exit, 0, 0, 0);
    }
    return wait_for(pid);
}

#define DIES(name, insn)                     \
    static void name(void)                   \
    {                                        \
        __asm__ volatile(insn ::: "memory"); \
    }

DIES(die_undefined, "ud2")
DIES(die_hlt, "hlt")
DIES(die_cli, "cli")
DIES(die_int3, "int3")
DIES(die_int, "int $0x81")
DIES(die_null, "movl $8, %%eax; movl (%%eax), %%eax")
DIES(die_jump, "movl $0xfffff000, %%eax; jmp *%%eax")
DIES(die_syscall, "xorl %%esp, %%esp; xorl %%ebp, %%ebp; syscall")
DIES(die_sysenter, "xorl %%esp, %%esp; xorl %%ebp, %%ebp; sysenter")
DIES(die_x87, "fld1; fstp %%st")

static void deaths(void)
{
    result("signal: undefined", death(die_undefined));
    result("signal: hlt", death(die_hlt));
    result("signal: cli", death(die_cli));
    result("signal: int3", death(die_int3));
    result("signal: int 0x81", death(die_int));
    result("signal: null", death(die_null));
    result("signal: jump", death(die_jump));
    /* Which one is the processor's and the kernel's to choose. */
    result("syscall without a stack", death(die_syscall) > 0);
    result("sysenter without a stack", death(die_sysenter) > 0);
    result("signal: x87", death(die_x87));
}

static void children(char **environment)
{
    static char *arguments[] = {"/bin/int80", "exit", 0};
    long sum = 0, pid;
    int there[2], value;

    for (long i = 0; i < 20; i++) {
        pid = call(SYS_fork, 0, 0, 0);
        if (pid == 0)
            call(SYS_exit, i, 0, 0);
        sum -= wait_for(pid);
    }
    result("fork exit statuses", sum);
    pid = call(SYS_fork, 0, 0, 0);
    if (pid == 0) {
        call(SYS_execve, (long)"/proc/self/exe", (long)arguments,
             (long)environment);
        call(SYS_exit, 99, 0, 0);
    }
    result("exec exit status", -wait_for(pid));
    call(SYS_pipe, (long)there, 0, 0);
    pid = call(SYS_fork, 0, 0, 0);
    if (pid == 0) {
        for (value = 0; value < 50; value++)
            call(SYS_write, there[1], (long)&value, sizeof(value));
        call(SYS_exit, 0, 0, 0);
    }
    sum = 0;
    for (int i = 0; i < 50; i++)
        sum += call(SYS_read, there[0], (long)&value, sizeof(value)) * value;
    result("pipe", sum);
    wait_for(pid);
}

static volatile int nr_signals;

static void count(int number)
{
    nr_signals += number;
}

void restore(void);
__asm__("restore: popl %eax; movl $119, %eax; int $0x80"); /* sigreturn */

static void signals(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask[2];
    } action = {count, SA_RESTORER, restore, {0, 0}};

    result("rt_sigaction",
           call4(SYS_rt_sigaction, SIGUSR1, (long)&action, 0, 8));
    for (int i = 0; i < 10; i++)
        call(SYS_kill, call(SYS_getpid, 0, 0, 0), SIGUSR1, 0);
    result("signals", nr_signals);
}

static void exit_with_gs(void)
{
    int got;

    call(SYS_getpid, 0, 0, 0);
    __asm__ volatile("movl %%gs:0, %0" : "=r"(got));
    call(SYS_exit, got, 0, 0);
}

static void thread_area(void)
{
    static int area[2] = {11, 22};
    struct {
        unsigned int number;
        void *base;
        unsigned int limit, flags;
    } entry = {~0U, area, 0xfffff, 0x51}; /* 32-bit, in pages, usable */
    int got = 0;

    result("set_thread_area", call(SYS_set_thread_area, (long)&entry, 0, 0));
    __asm__ volatile("movl %1, %%gs; movl %%gs:4, %0"
                     : "=&r"(got)
                     : "r"(entry.number * 8 + 3));
    result("through gs", got);
    /* Who loses it faults. */
    result("through gs, later", -death(exit_with_gs));
}

static void vdso(unsigned long *vector)
{
    unsigned long entry = 0;
    long pid = SYS_getpid;

    for (; vector[0]; vector += 2)
        if (vector[0] == AT_SYSINFO)
            entry = vector[1];
    result("vDSO", entry != 0);
    __asm__ volatile("call *%1" : "+a"(pid) : "S"(entry) : "memory");
    result("vDSO getpid", pid == call(SYS_getpid, 0, 0, 0));
}

void begin(unsigned long *stack);
void begin(unsigned long *stack)
{
    char **environment = (char **)(stack + 1 + stack[0] + 1);
    unsigned long *vector = (unsigned long *)environment;

    if (stack[0] == 2)
        call(SYS_exit, 42, 0, 0);
    while (*vector++)
        ;
    result("torture: begin", 32);
    result("getpid", call(SYS_getpid, 0, 0, 0) > 1);
    result("unknown", call(9999, 0, 0, 0));
    result("write from nowhere", call(SYS_write, 1, 8, 8));
    children(environment);
    signals();
    deaths();
    thread_area();
    vdso(vector);
    result("torture: end", 0);
    call(SYS_exit, 0, 0, 0);
}

__asm__(".globl _start\n_start: xorl %ebp, %ebp; movl %esp, %eax; "
        "andl $-16, %esp; subl $12, %esp; pushl %eax; call begin; hlt");
