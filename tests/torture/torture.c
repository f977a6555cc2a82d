/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User space that leans on what a hypervisor can get wrong: its output is the
 * same on any correct x86-64 Linux, so a guest's can be compared with the
 * host's line by line. No process numbers, addresses or times are printed.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define PROCESSES 6

static const char *self;

static void result(const char *name, long value)
{
    printf("%-28s %ld\n", name, value);
    fflush(stdout);
}

/* A small generator, so that both sides do the same. */
static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static uint32_t checksum(const unsigned char *data, size_t bytes)
{
    uint32_t sum = 2166136261u;

    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ data[i]) * 16777619u;
    return sum;
}

static int wait_status(pid_t pid)
{
    int status;

    if (waitpid(pid, &status, 0) != pid)
        return -1;
    return status;
}

/* --- processes ----------------------------------------------------------- */

static void fork_storm(void)
{
    long sum = 0;

    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(i);
        sum += WEXITSTATUS(wait_status(pid));
    }
    result("fork exit statuses", sum);
}

static void fork_tree(int depth)
{
    pid_t children[2];
    int bad = 0;

    if (depth == 0)
        return;
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            fork_tree(depth - 1);
            _exit(depth);
        }
    }
    for (int i = 0; i < 2; i++)
        bad |= WEXITSTATUS(wait_status(children[i])) != depth;
    if (bad)
        _exit(255);
}

static void exec_storm(void)
{
    long sum = 0;

    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            char number[16];

            snprintf(number, sizeof(number), "%d", i);
            execl(self, self, "exit", number, (char *)NULL);
            _exit(99);
        }
        sum += WEXITSTATUS(wait_status(pid));
    }
    result("exec exit statuses", sum);
}

static void pipes(void)
{
    int there[2], back[2];
    long sum = 0;
    pid_t pid;

    if (pipe(there) || pipe(back))
        exit(1);
    pid = fork();
    if (pid == 0) {
        long value;

        while (read(there[0], &value, sizeof(value)) == sizeof(value) &&
               value >= 0) {
            value = value * 3 + 1;
            if (write(back[1], &value, sizeof(value)) < 0)
                break;
        }
        _exit(0);
    }
    for (long i = 0; i < 500; i++) {
        long value = i;

        if (write(there[1], &value, sizeof(value)) < 0 ||
            read(back[0], &value, sizeof(value)) < 0)
            exit(1);
        sum += value;
    }
    sum += write(there[1], &(long){-1}, sizeof(long));
    wait_status(pid);
    result("pipe round trips", sum);
}

/* --- signals -------------------------------------------------------------- */

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

static void signals(void)
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

static void faults(void)
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

static long death(void (*how)(void))
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        how();
        _exit(0);
    }
    status = wait_status(pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
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

static void die_divide(void)
{
    volatile int zero = 0;
    volatile int value = 1 / zero; /* x86 raises, it does not wrap */

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

static void deaths(void)
{
    result("signal: null", death(die_null));
    result("signal: kernel address", death(die_kernel));
    result("signal: hole", death(die_hole));
    result("signal: hole, code", death(die_hole_code));
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

static void timer_signals(void)
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

/* --- registers across context switches --------------------------------------- */

static int avx_child(int seed)
{
    __m256i in[8], out[8];

    for (int i = 0; i < 8; i++)
        in[i] = _mm256_set1_epi32(seed * 0x01010101 + i);
    for (int turn = 0; turn < 1500; turn++) {
        /* sched_yield with all registers live. */
        __asm__ volatile(
            "vmovdqu 0(%1), %%ymm0; vmovdqu 32(%1), %%ymm3\n"
            "vmovdqu 64(%1), %%ymm5; vmovdqu 96(%1), %%ymm7\n"
            "vmovdqu 128(%1), %%ymm9; vmovdqu 160(%1), %%ymm11\n"
            "vmovdqu 192(%1), %%ymm13; vmovdqu 224(%1), %%ymm15\n"
            "mov $24, %%eax; syscall\n"
            "vmovdqu %%ymm0, 0(%0); vmovdqu %%ymm3, 32(%0)\n"
            "vmovdqu %%ymm5, 64(%0); vmovdqu %%ymm7, 96(%0)\n"
            "vmovdqu %%ymm9, 128(%0); vmovdqu %%ymm11, 160(%0)\n"
            "vmovdqu %%ymm13, 192(%0); vmovdqu %%ymm15, 224(%0)\n" ::"r"(out),
            "r"(in)
            : "rax", "rcx", "r11", "memory", "xmm0", "xmm3", "xmm5", "xmm7",
              "xmm9", "xmm11", "xmm13", "xmm15");
        if (memcmp(in, out, sizeof(in)))
            return 1;
    }
    return 0;
}

static void avx(void)
{
    pid_t children[PROCESSES];
    long bad = 0;

    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit(avx_child(i + 1));
    }
    for (int i = 0; i < PROCESSES; i++)
        bad += wait_status(children[i]) != 0;
    result("avx state lost", bad);
}

static void bases(void)
{
    static long fs_area[4], gs_area[4] = {0x1234, 0x5678};
    unsigned long before, fs, gs;
    long through_gs;

    (void)fs_area;
    syscall(SYS_arch_prctl, ARCH_GET_FS, &before);
    syscall(SYS_arch_prctl, ARCH_SET_GS, gs_area);
    for (int i = 0; i < 200; i++)
        sched_yield();
    __asm__ volatile("mov %%gs:8, %0" : "=r"(through_gs));
    syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
    syscall(SYS_arch_prctl, ARCH_GET_FS, &fs);
    result("gs base kept", gs == (unsigned long)gs_area);
    result("through gs", through_gs);
    result("fs base kept", fs == before);
}

static void flags(void)
{
    unsigned long in = 0xad5, out; /* OF DF- ZF PF CF and the like */

    in &= ~0x400UL;
    __asm__ volatile("push %1; popf; mov $39, %%eax; syscall\n"
                     "pushf; pop %0"
                     : "=r"(out)
                     : "r"(in)
                     : "rax", "rcx", "r11", "cc", "memory");
    result("flags after syscall", (long)(out & 0xcd5));
}

/* --- memory ------------------------------------------------------------------- */

static void map_storm(void)
{
    enum { AREAS = 24, AREA_PAGES = 32 };
    unsigned char *area[AREAS] = {0};
    uint32_t state = 42, sum = 0;

    for (int turn = 0; turn < 1500; turn++) {
        unsigned int i = next(&state) % AREAS;

        if (!area[i]) {
            area[i] = mmap(NULL, AREA_PAGES * PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            continue;
        }
        switch (next(&state) % 5) {
        case 0:
            munmap(area[i], AREA_PAGES * PAGE);
            area[i] = NULL;
            break;
        case 1:
            mprotect(area[i], AREA_PAGES * PAGE, PROT_READ);
            sum += area[i][next(&state) % (AREA_PAGES * PAGE)];
            mprotect(area[i], AREA_PAGES * PAGE, PROT_READ | PROT_WRITE);
            break;
        case 2: {
            unsigned char *moved =
                mremap(area[i], AREA_PAGES * PAGE, 2 * AREA_PAGES * PAGE,
                       MREMAP_MAYMOVE);

            area[i] = mremap(moved, 2 * AREA_PAGES * PAGE, AREA_PAGES * PAGE,
                             MREMAP_MAYMOVE);
            break;
        }
        case 3:
            madvise(area[i] + PAGE, 4 * PAGE, MADV_DONTNEED);
            break;
        default:
            for (int page = 0; page < AREA_PAGES; page++)
                area[i][page * PAGE + next(&state) % PAGE] ^=
                    (unsigned char)next(&state);
        }
    }
    for (int i = 0; i < AREAS; i++) {
        if (area[i])
            sum ^= checksum(area[i], AREA_PAGES * PAGE);
        if (area[i])
            munmap(area[i], AREA_PAGES * PAGE);
    }
    result("mapping storm", sum);
}

static void copy_on_write(void)
{
    enum { BYTES = 256 * PAGE };
    unsigned char *data = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long bad = 0;

    for (int i = 0; i < BYTES; i++)
        data[i] = (unsigned char)(i / PAGE);
    for (int child = 0; child < 8; child++) {
        pid_t pid = fork();

        if (pid == 0) {
            for (int page = child; page < 256; page += 3)
                data[page * PAGE + child] ^= 0x55;
            _exit(data[child * PAGE + child] != (child ^ 0x55));
        }
        /* The parent writes at the same time. */
        for (int page = 0; page < 256; page += 5)
            data[page * PAGE + 100 + child] = (unsigned char)child;
        bad += wait_status(pid) != 0;
    }
    result("copy on write, bad", bad);
    result("copy on write, sum", checksum(data, BYTES));
    munmap(data, BYTES);
}

static long grow(long level)
{
    volatile char room[8192];

    room[0] = (char)level;
    return level == 0 ? room[0] : grow(level - 1) + 1;
}

static void into_kernel(void)
{
    /* The kernel writes to pages that are not there yet. */
    char *fresh = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *closed =
        mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int ends[2];

    if (pipe(ends) || write(ends[1], "0123456789abcdef", 16) != 16)
        exit(1);
    result("read into fresh page", read(ends[0], fresh + PAGE - 4, 8));
    result("fresh page", memcmp(fresh + PAGE - 4, "01234567", 8));
    result("read into read-only", read(ends[0], closed, 8));
    result("write from nowhere", syscall(SYS_write, ends[1], 8, 8));
}

/* --- threads --------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long shared_count;
static __thread long own_count;

static void *thread(void *argument)
{
    (void)argument;
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&lock);
        shared_count++;
        pthread_mutex_unlock(&lock);
        own_count++;
        if (i % 64 == 0)
            sched_yield();
    }
    return (void *)own_count;
}

static void threads(void)
{
    pthread_t all[8];
    long own = 0;

    for (int i = 0; i < 8; i++)
        pthread_create(&all[i], NULL, thread, NULL);
    for (int i = 0; i < 8; i++) {
        void *value;

        pthread_join(all[i], &value);
        own += (long)value;
    }
    result("threads, shared", shared_count);
    result("threads, own", own);
}

/* --- debugging --------------------------------------------------------------------- */

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

static void single_steps(void)
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

/* --- ways into the kernel ------------------------------------------------------------ */

static void entries(void)
{
    typedef long (*vtime_fn)(long *);
    vtime_fn vtime = (vtime_fn)0xffffffffff600400;
    struct timespec mono, last = {0, 0};
    struct timeval tv;
    long a, b, back = 0;
    uint64_t tsc = 0;

    __asm__ volatile("int $0x80" : "=a"(a) : "a"(20) : "memory");
    result("int 0x80 getpid", a == getpid());
    __asm__ volatile("int $0x80" : "=a"(a) : "a"(9999) : "memory");
    result("int 0x80 unknown", a);
    result("syscall unknown", syscall(9999));
    a = vtime(NULL);
    b = (long)time(NULL);
    result("vsyscall time", labs(a - b) <= 1);
    gettimeofday(&tv, NULL);
    clock_gettime(CLOCK_REALTIME, &mono);
    result("clocks agree", labs(tv.tv_sec - mono.tv_sec) <= 1);
    for (int i = 0; i < 100000; i++) {
        uint64_t now = __builtin_ia32_rdtsc();

        clock_gettime(CLOCK_MONOTONIC, &mono);
        back += mono.tv_sec < last.tv_sec ||
                (mono.tv_sec == last.tv_sec && mono.tv_nsec < last.tv_nsec);
        back += now < tsc;
        last = mono;
        tsc = now;
    }
    result("time ran backwards", back);
}

int main(int argc, char **argv)
{
    self = argv[0][0] == '/' ? argv[0] : "/bin/torture";
    if (argc == 3 && !strcmp(argv[1], "exit"))
        return atoi(argv[2]);
    printf("torture: begin\n");
    fork_storm();
    fork_tree(5);
    exec_storm();
    pipes();
    signals();
    faults();
    deaths();
    timer_signals();
    avx();
    bases();
    flags();
    map_storm();
    copy_on_write();
    result("stack growth", grow(500));
    into_kernel();
    threads();
    single_steps();
    entries();
    printf("torture: end\n");
    return 0;
}
