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

/* Where insn faults, do this and go on there. */
#define FIXUP(insn, does, on)        \
    ".pushsection .fixup, \"ax\"\n"  \
    "9: " does "\n"                  \
    "   jmp " #on "\n"               \
    ".popsection\n"                  \
    ".pushsection .extable, \"a\"\n" \
    ".balign 8\n"                    \
    ".quad " #insn ", 9b\n"          \
    ".popsection\n"

static inline void raw_wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value),
                     "d"((uint32_t)(value >> 32))
                     : "memory");
}

static inline uint64_t raw_rdmsr(uint32_t msr)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
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

/* False: the processor refuses the value. */
static inline bool xsetbv(uint64_t value)
{
    uint32_t low = (uint32_t)value, refused = 0;

    if (!at_ring0())
        return !ring0_call(RING0_XSETBV, value, 0);
    __asm__ volatile("1: xsetbv\n2:\n" FIXUP(1b, "movl $1, %0", 2b)
                     : "+r"(refused)
                     : "c"(0), "a"(low), "d"((uint32_t)(value >> 32)));
    return !refused;
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

/* --- segment registers ---------------------------------------------------- */

/* mov to a segment register; false: the processor refuses the selector. */
#define LOAD_SEGMENT(name)                                     \
    static inline bool load_##name(uint16_t selector)          \
    {                                                          \
        uint32_t refused = 0;                                  \
                                                               \
        __asm__ volatile("1: mov %1, %%" #name                 \
                         "\n2:\n" FIXUP(1b, "movl $1, %0", 2b) \
                         : "+r"(refused)                       \
                         : "r"((uint32_t)selector)             \
                         : "memory");                          \
        return !refused;                                       \
    }
LOAD_SEGMENT(ds)
LOAD_SEGMENT(es)
LOAD_SEGMENT(fs)
LOAD_SEGMENT(gs)
#undef LOAD_SEGMENT

/*
 * Bases. Of %gs there are two, of which the guest sees one: the other is what
 * SWAPGS brings, at ring 0, where no guest can reach it. C at ring 3 cannot
 * have it done at that price and keeps the other one in gs_inactive.
 *
 * CR4.FSGSBASE is the guest's to clear, and then the short instructions are
 * #UD at ring 0, too. Ring 3 of a software KVM has the host's CR4, and who
 * interprets ring 0 there need not know them.
 */
static inline bool has_fsgsbase(const struct vcpu *v)
{
    return slow_ring0() ? !at_ring0() : !!(v->cr4_guest & CR4_FSGSBASE);
}

/* fs_base(), set_fs_base(); likewise of %gs. */
#define SEGMENT_BASE(name, msr)                                               \
    static inline uint64_t name##_base(const struct vcpu *v)                  \
    {                                                                         \
        uint64_t base;                                                        \
                                                                              \
        if (!has_fsgsbase(v))                                                 \
            return raw_rdmsr(msr);                                            \
        __asm__ volatile("rd" #name "base %0" : "=r"(base));                  \
        return base;                                                          \
    }                                                                         \
    static inline void set_##name##_base(const struct vcpu *v, uint64_t base) \
    {                                                                         \
        if (has_fsgsbase(v))                                                  \
            __asm__ volatile("wr" #name "base %0" ::"r"(base) : "memory");    \
        else                                                                  \
            raw_wrmsr(msr, base);                                             \
    }
SEGMENT_BASE(fs, MSR_FS_BASE)
SEGMENT_BASE(gs, MSR_GS_BASE)
#undef SEGMENT_BASE

static inline uint64_t gs_inactive(const struct vcpu *v)
{
    return slow_ring0() ? v->gs_inactive : raw_rdmsr(MSR_KERNEL_GS_BASE);
}

static inline void set_gs_inactive(struct vcpu *v, uint64_t base)
{
    if (slow_ring0())
        v->gs_inactive = base;
    else
        raw_wrmsr(MSR_KERNEL_GS_BASE, base);
}

/* Between the guest's kernel and its user space. */
static inline void swap_gs(struct vcpu *v)
{
    uint64_t base;

    if (!slow_ring0()) {
        __asm__ volatile("swapgs" ::: "memory");
        return;
    }
    base = gs_base(v);
    set_gs_base(v, v->gs_inactive);
    v->gs_inactive = base;
}

#endif
#endif
