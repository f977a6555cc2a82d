/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers across context switches, and the ways into the kernel. */
#include "torture.h"

#include <asm/prctl.h>
#include <immintrin.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

void avx(void)
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

void bases(void)
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

void flags(void)
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

/* In a child: the kernel may have been told to have no such page. */
static void vsyscall_time(void)
{
    typedef long (*vtime_fn)(long *);
    vtime_fn vtime = (vtime_fn)0xffffffffff600400;

    _exit(labs(vtime(NULL) - (long)time(NULL)) > 1);
}

/* System calls of a process whose stack pointer is no address. */
static void stackless(void)
{
    long done = 0;

    __asm__ volatile("mov %%rsp, %%rbx; mov %1, %%rsp\n"
                     "1: mov $39, %%eax; syscall; inc %0\n"
                     "cmp $50, %0; jne 1b; mov %%rbx, %%rsp"
                     : "+r"(done)
                     : "r"(0x1ffffffffffff)
                     : "rax", "rbx", "rcx", "r11", "memory", "cc");
    _exit(done != 50);
}

void entries(void)
{
    struct timespec mono, last = {0, 0};
    struct timeval tv;
    long a, back = 0;
    uint64_t tsc = 0;

    __asm__ volatile("int $0x80" : "=a"(a) : "a"(20) : "memory");
    result("int 0x80 getpid", a == getpid());
    __asm__ volatile("int $0x80" : "=a"(a) : "a"(9999) : "memory");
    result("int 0x80 unknown", a);
    result("syscall unknown", syscall(9999));
    result("syscalls without a stack", death(stackless));
    result("vsyscall time", death(vsyscall_time));
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
