/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The privileged instructions that emu's C needs, behind one small interface.
 *
 * Where ring 0 is fast, C runs there and each is the instruction itself.
 * With EMU_QUIRK_SLOW_RING0 C runs at ring 3: the same request goes through
 * ring0_call(), a privileged instruction at a known address, whose #GP ring 0
 * answers by doing the work (ring0.S). Roughly 12 us there: callers batch.
 */
#ifndef EMU_PRIVILEGED_H
#define EMU_PRIVILEGED_H

/* Numbers of ring0_call(); ring0.S has the table. */
#define RING0_WRITE_CR3 0
#define RING0_INVLPG 1
#define RING0_WRMSR 2
#define RING0_HALT 3
#define RING0_OUT 4
#define RING0_LLDT 5
#define RING0_WRITE_CR0 6
#define RING0_WRITE_CR4 7
#define RING0_XSETBV 8
#define RING0_WRITE_DR 9
#define RING0_READ_DR6 10
#define RING0_NR 11

#ifndef __ASSEMBLY__

#include "emu/emu.h"

uint64_t ring0_call(uint64_t op, uint64_t a1, uint64_t a2);

/* sti; hlt unless irq_pending is set; returns after an interrupt. */
void ring0_halt(struct vcpu *v);

/*
 * Is this ring 0? Always where it is fast; else only while a vCPU starts and
 * when ring0.S calls C for a fault of emu's own, on ring 0's part of the
 * stack. There a ring0_call() would halt.
 */
static inline bool at_ring0(void)
{
    uint64_t sp;

    __asm__("mov %%rsp, %0" : "=r"(sp));
    return !slow_ring0() || (sp & (EMU_VCPU_BYTES - 1)) > RING3_STACK_OFFSET;
}

static inline void raw_wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value),
                     "d"((uint32_t)(value >> 32))
                     : "memory");
}

static inline void raw_write_dr(unsigned int nr, uint64_t value)
{
    switch (nr) {
    case 0:
        __asm__ volatile("mov %0, %%dr0" ::"r"(value));
        break;
    case 1:
        __asm__ volatile("mov %0, %%dr1" ::"r"(value));
        break;
    case 2:
        __asm__ volatile("mov %0, %%dr2" ::"r"(value));
        break;
    case 3:
        __asm__ volatile("mov %0, %%dr3" ::"r"(value));
        break;
    case 6:
        __asm__ volatile("mov %0, %%dr6" ::"r"(value));
        break;
    case 7:
        __asm__ volatile("mov %0, %%dr7" ::"r"(value));
        break;
    }
}

static inline void write_cr3(uint64_t value)
{
    if (!at_ring0())
        ring0_call(RING0_WRITE_CR3, value, 0);
    else
        __asm__ volatile("mov %0, %%cr3" ::"r"(value) : "memory");
}

static inline void write_cr0(uint64_t value)
{
    if (!at_ring0())
        ring0_call(RING0_WRITE_CR0, value, 0);
    else
        __asm__ volatile("mov %0, %%cr0" ::"r"(value) : "memory");
}

static inline void write_cr4(uint64_t value)
{
    if (!at_ring0())
        ring0_call(RING0_WRITE_CR4, value, 0);
    else
        __asm__ volatile("mov %0, %%cr4" ::"r"(value) : "memory");
}

static inline void invlpg(uint64_t va)
{
    if (!at_ring0())
        ring0_call(RING0_INVLPG, va, 0);
    else
        __asm__ volatile("invlpg (%0)" ::"r"(va) : "memory");
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    if (!at_ring0())
        ring0_call(RING0_WRMSR, msr, value);
    else
        raw_wrmsr(msr, value);
}

static inline void outl(uint16_t port, uint32_t value)
{
    if (!at_ring0())
        ring0_call(RING0_OUT, port, value);
    else
        __asm__ volatile("outl %0, %1" ::"a"(value), "d"(port) : "memory");
}

static inline void lldt(uint16_t selector)
{
    if (!at_ring0())
        ring0_call(RING0_LLDT, selector, 0);
    else
        __asm__ volatile("lldt %0" ::"r"(selector) : "memory");
}

static inline void xsetbv(uint64_t value)
{
    if (!at_ring0())
        ring0_call(RING0_XSETBV, value, 0);
    else
        __asm__ volatile("xsetbv" ::"c"(0), "a"((uint32_t)value),
                         "d"((uint32_t)(value >> 32)));
}

static inline void write_dr(unsigned int nr, uint64_t value)
{
    if (!at_ring0())
        ring0_call(RING0_WRITE_DR, nr, value);
    else
        raw_write_dr(nr, value);
}

static inline uint64_t read_dr6(void)
{
    uint64_t value;

    if (!at_ring0())
        return ring0_call(RING0_READ_DR6, 0, 0);
    __asm__ volatile("mov %%dr6, %0" : "=r"(value));
    return value;
}

static inline uint64_t rdgsbase(void)
{
    uint64_t base;

    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

static inline void wrgsbase(uint64_t base)
{
    __asm__ volatile("wrgsbase %0" ::"r"(base) : "memory");
}

static inline uint64_t rdfsbase(void)
{
    uint64_t base;

    __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

static inline void wrfsbase(uint64_t base)
{
    __asm__ volatile("wrfsbase %0" ::"r"(base) : "memory");
}

#endif
#endif
