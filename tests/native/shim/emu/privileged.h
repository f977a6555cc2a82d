/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Privileged instructions as records of what would have been done. */
#ifndef TESTS_NATIVE_SHIM_PRIVILEGED_H
#define TESTS_NATIVE_SHIM_PRIVILEGED_H

#include "emu/emu.h"

struct native_cpu {
    uint64_t cr0, cr3, cr4, dr[8], xcr0, fs_base, gs_base, ldt;
    uint64_t msr_deadline, msr_lvt_timer, msr_timer_initial;
    uint16_t ds, es, fs, gs;
    uint64_t selectors; /* those that the tables have, by their last six bits */
    unsigned int nr_cr3, nr_invlpg, nr_wrmsr, nr_out;
};
extern struct native_cpu native_cpu;

#define RING0_HALT 4
#define RING0_WBINVD 11
#define MSR_TSC_DEADLINE_ 0x6e0

uint64_t ring0_call(uint64_t op, uint64_t a1, uint64_t a2);
void ring0_halt(struct vcpu *v);

static inline bool at_ring0(void)
{
    return true;
}

static inline void raw_wrmsr(uint32_t msr, uint64_t value)
{
    native_cpu.nr_wrmsr++;
    if (msr == MSR_TSC_DEADLINE_)
        native_cpu.msr_deadline = value;
    else if (msr == MSR_X2APIC_LVT_TIMER)
        native_cpu.msr_lvt_timer = value;
    else if (msr == MSR_X2APIC_TIMER_INITIAL)
        native_cpu.msr_timer_initial = value;
}

static inline uint64_t raw_rdmsr(uint32_t msr)
{
    (void)msr;
    return 0;
}

static inline uint64_t rdtsc(void)
{
    return __builtin_ia32_rdtsc();
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    raw_wrmsr(msr, value);
}

static inline uint64_t rdmsr(uint32_t msr)
{
    return raw_rdmsr(msr);
}

static inline void raw_write_dr(unsigned int nr, uint64_t value)
{
    native_cpu.dr[nr] = value;
}

static inline void write_dr(unsigned int nr, uint64_t value)
{
    native_cpu.dr[nr] = value;
}

static inline uint64_t read_dr6(void)
{
    return native_cpu.dr[6];
}

static inline void write_cr0(uint64_t value)
{
    native_cpu.cr0 = value;
}

static inline void write_cr3(uint64_t value)
{
    native_cpu.cr3 = value;
    native_cpu.nr_cr3++;
}

static inline void write_cr4(uint64_t value)
{
    native_cpu.cr4 = value;
}

static inline void invlpg(uint64_t va)
{
    (void)va;
    native_cpu.nr_invlpg++;
}

static inline void outl(uint16_t port, uint32_t value)
{
    (void)port, (void)value;
    native_cpu.nr_out++;
}

static inline void lldt(uint16_t selector)
{
    native_cpu.ldt = selector;
}

static inline bool xsetbv(uint64_t value)
{
    native_cpu.xcr0 = value;
    return true;
}

/* Every selector is refused that has no bit of native_cpu.selectors. */
static inline bool load_selector(uint16_t selector, uint16_t *to)
{
    if (selector > 3 && !(native_cpu.selectors >> selector % 64 & 1))
        return false;
    *to = selector;
    return true;
}

static inline bool load_ds(uint16_t selector)
{
    return load_selector(selector, &native_cpu.ds);
}

static inline bool load_es(uint16_t selector)
{
    return load_selector(selector, &native_cpu.es);
}

static inline bool load_fs(uint16_t selector)
{
    return load_selector(selector, &native_cpu.fs);
}

/* As AMD's: a NUL selector leaves the base. */
static inline bool load_gs(uint16_t selector)
{
    if (!load_selector(selector, &native_cpu.gs))
        return false;
    if (selector > 3)
        native_cpu.gs_base = selector;
    return true;
}

static inline uint64_t fs_base(const struct vcpu *v)
{
    (void)v;
    return native_cpu.fs_base;
}

static inline void set_fs_base(const struct vcpu *v, uint64_t base)
{
    (void)v;
    native_cpu.fs_base = base;
}

static inline uint64_t gs_base(const struct vcpu *v)
{
    (void)v;
    return native_cpu.gs_base;
}

static inline void set_gs_base(const struct vcpu *v, uint64_t base)
{
    (void)v;
    native_cpu.gs_base = base;
}

static inline uint64_t gs_inactive(const struct vcpu *v)
{
    return v->gs_inactive;
}

static inline void set_gs_inactive(struct vcpu *v, uint64_t base)
{
    v->gs_inactive = base;
}

static inline void swap_gs(struct vcpu *v)
{
    uint64_t base = native_cpu.gs_base;

    native_cpu.gs_base = v->gs_inactive;
    v->gs_inactive = base;
}

#endif
