/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System time, from the TSC and the vCPU's copy of the VM process's clock. */
#ifndef EMU_CLOCK_H
#define EMU_CLOCK_H

#include "emu/emu.h"
#include "emu/privileged.h"

/* What so many ticks of the TSC are in nanoseconds. */
static inline uint64_t scale_ticks(const struct emu_clock *c, uint64_t ticks)
{
    if (c->tsc_shift >= 0)
        ticks <<= c->tsc_shift;
    else
        ticks >>= -c->tsc_shift;
    return (uint64_t)((unsigned __int128)ticks * c->tsc_to_system_mul >> 32);
}

static inline uint64_t system_time_ns(void)
{
    /* The guest's own copy of the clock: both must count alike. */
    const struct emu_clock *c = &this_vcpu()->clock;

    return c->system_time_ns + scale_ticks(c, rdtsc() - c->tsc_timestamp);
}

/* TSC value at which system time is ns. */
static inline uint64_t tsc_at(uint64_t ns)
{
    struct emu_clock c = this_vcpu()->clock;
    uint64_t delta, ticks;

    if (ns <= c.system_time_ns)
        return 1;
    delta = ns - c.system_time_ns;
    if (delta > 1UL << 50)
        delta = 1UL << 50; /* 13 days; looked at again then */
    /* (delta << 32) / mul without a 128-bit division */
    ticks = (delta / c.tsc_to_system_mul << 32) +
            (delta % c.tsc_to_system_mul << 32) / c.tsc_to_system_mul;
    if (c.tsc_shift >= 0)
        ticks >>= c.tsc_shift;
    else
        ticks <<= -c.tsc_shift;
    return c.tsc_timestamp + ticks + 1;
}

#endif
