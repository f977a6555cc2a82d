/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exceptions that every processor raises and not every emulator. Alone, this
 * says which of them a guest can be expected to see here.
 */
#include "torture.h"

#include <stdint.h>

/* With EFLAGS.AC set (SDM vol 3, 6.15, #AC); SIGBUS on Linux. */
static void unaligned(void)
{
    uint64_t words[2] = {0}, got;

    __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq\n"
                     "movq 1(%1), %0\n"
                     "pushfq; andq $~0x40000, (%%rsp); popfq"
                     : "=r"(got)
                     : "r"(words)
                     : "cc", "memory");
}

/* Not canonical, through rbp (SDM vol 3, 6.15, #SS); SIGBUS. */
static void stack_segment(void)
{
    uint64_t got;

    __asm__ volatile("push %%rbp; mov %1, %%rbp; mov (%%rbp), %0; pop %%rbp"
                     : "=r"(got)
                     : "r"(0xdead000000000000));
}

/* A division by zero that MXCSR does not mask (#XM); SIGFPE. */
static void simd(void)
{
    uint32_t control = 0x1d80;

    __asm__ volatile("ldmxcsr %0; xorps %%xmm0, %%xmm0\n"
                     "mov $1, %%eax; cvtsi2ss %%eax, %%xmm1\n"
                     "divss %%xmm0, %%xmm1"
                     :
                     : "m"(control)
                     : "rax", "xmm0", "xmm1");
}

void processor(void)
{
    result("processor: #AC", death(unaligned));
    result("processor: #SS", death(stack_segment));
    result("processor: #XM", death(simd));
}
