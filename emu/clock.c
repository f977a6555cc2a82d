/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System time from the TSC, the timers that fire VIRQ_TIMER, and where a
 * vCPU's time went. The LAPIC's TSC-deadline timer is armed for whatever
 * comes first of single-shot timer, periodic timer and poll timeout.
 */
#include "emu/emu.h"
#include "emu/privileged.h"

/* Slow ring 0: what the LAPIC may be late to save telling it. */
#define LATE_NS 100000UL

uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

/* A consistent copy of the live clock. */
static void read_clock(struct emu_clock *c)
{
    const struct emu_clock *from = &shared->clock;
    uint32_t version;

    do {
        version = READ_ONCE(from->version);
        barrier();
        memcpy(c, from, sizeof(*c));
        barrier();
    } while (version & 1 || version != READ_ONCE(from->version));
}

static uint64_t scale(const struct emu_clock *c, uint64_t ticks)
{
    if (c->tsc_shift >= 0)
        ticks <<= c->tsc_shift;
    else
        ticks >>= -c->tsc_shift;
    return (uint64_t)((unsigned __int128)ticks * c->tsc_to_system_mul >> 32);
}

uint64_t system_time_ns(void)
{
    /* The guest's own copy of the clock: both must count alike. */
    const struct emu_clock *c = &this_vcpu()->clock;

    return c->system_time_ns + scale(c, rdtsc() - c->tsc_timestamp);
}

/* TSC value at which system time is ns. */
uint64_t tsc_at(uint64_t ns)
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

/* --- what the guest reads ------------------------------------------------------ */

static void fill_time(vcpu_time_info_t *t, const struct emu_clock *c)
{
    uint32_t version = (t->version | 1) + 1;

    WRITE_ONCE(t->version, version - 1);
    barrier();
    t->tsc_timestamp = c->tsc_timestamp;
    t->system_time = c->system_time_ns;
    t->tsc_to_system_mul = c->tsc_to_system_mul;
    t->tsc_shift = (int8_t)c->tsc_shift;
    t->flags = XEN_PVCLOCK_TSC_STABLE_BIT;
    barrier();
    WRITE_ONCE(t->version, version);
}

static void update_wallclock(const struct emu_clock *c)
{
    if (shinfo->wc_sec == (uint32_t)c->wc_sec && shinfo->wc_nsec == c->wc_nsec)
        return;
    shinfo->wc_version |= 1;
    barrier();
    shinfo->wc_sec = (uint32_t)c->wc_sec;
    shinfo->wc_sec_hi = (uint32_t)(c->wc_sec >> 32);
    shinfo->wc_nsec = c->wc_nsec;
    barrier();
    shinfo->wc_version++;
}

/* Into a registered area, the clock as it is: 0 or -EFAULT. */
int copy_time(uint64_t va)
{
    struct vcpu *v = this_vcpu();
    vcpu_time_info_t t;

    if (copy_from_kernel(v, &t, va, sizeof(t)))
        return -XEN_EFAULT;
    fill_time(&t, &v->clock);
    return copy_to_kernel(v, va, &t, sizeof(t));
}

/* Copy the clock to the guest if the VM process has moved it. */
void update_time(struct vcpu *v, bool force)
{
    if (!force && v->clock.version == READ_ONCE(shared->clock.version))
        return;
    read_clock(&v->clock);
    fill_time(&v->info->time, &v->clock);
    if (v->time_va)
        copy_time(v->time_va);
    if (v->pub.id == 0)
        update_wallclock(&v->clock);
}

/* --- timers ----------------------------------------------------------------------- */

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

void timer_program(struct vcpu *v)
{
    uint64_t next =
        earliest(v->singleshot_ns, earliest(v->periodic_next_ns, v->poll_ns));
    uint64_t tsc;

    if (tick_does(v, next))
        return;
    tsc = next ? tsc_at(next) : 0;
    if (tsc == v->armed_tsc)
        return;
    /* Slow ring 0: a deadline too many costs one interrupt at most, telling
     * the LAPIC of each change costs a trap. */
    if (slow_ring0() && tsc <= v->armed_tsc &&
        (!tsc || v->armed_tsc - tsc < shared->tsc_khz * LATE_NS / 1000000))
        return;
    v->armed_tsc = tsc;
    wrmsr(MSR_TSC_DEADLINE, tsc);
}

void timer_interrupt(struct vcpu *v, bool is_tick)
{
    uint64_t now = system_time_ns();
    bool is_due = false;

    if (!slow_ring0())
        v->armed_tsc = 0; /* the LAPIC disarms itself; ring0.S has noted it */
    update_time(v, false);
    if (v->singleshot_ns && v->singleshot_ns <= now) {
        v->singleshot_ns = 0;
        is_due = true;
        send_virq(v, VIRQ_TIMER);
    }
    if (is_tick)
        tick_came(v, now, is_due);
    if (v->periodic_next_ns && v->periodic_next_ns <= now) {
        /* Ticks that were missed are missed. */
        v->periodic_next_ns += v->period_ns;
        if (v->periodic_next_ns <= now)
            v->periodic_next_ns = now + v->period_ns;
        send_virq(v, VIRQ_TIMER);
    }
    if (v->poll_ns && v->poll_ns <= now)
        v->poll_ns = 0;
    timer_program(v);
}

int64_t do_set_timer_op(struct vcpu *v, uint64_t timeout_ns, uint64_t a2,
                        uint64_t a3, uint64_t a4, uint64_t a5)
{
    v->singleshot_ns = timeout_ns;
    if (slow_ring0())
        tick_asked(v, timeout_ns);
    if (timeout_ns && timeout_ns <= system_time_ns()) {
        v->singleshot_ns = 0;
        send_virq(v, VIRQ_TIMER);
    }
    timer_program(v);
    return 0;
}

/* --- where the time went: vcpu.h, runstate ------------------------------------------ */

/* Steal time that KVM has seen since the last look counts as "runnable". */
static void account_steal(struct vcpu *v, uint64_t now)
{
    uint64_t steal = READ_ONCE(v->steal.steal) - v->steal_seen;
    uint64_t room = now > v->runstate.state_entry_time
                        ? now - v->runstate.state_entry_time
                        : 0;

    /* Never more than has passed; the rest is for the next look. */
    if (steal > room)
        steal = room;
    v->runstate.time[RUNSTATE_runnable] += steal;
    v->runstate.state_entry_time += steal;
    v->steal_seen += steal;
}

static void runstate_publish(struct vcpu *v)
{
    if (v->runstate_va)
        copy_to_kernel(v, v->runstate_va, &v->runstate, sizeof(v->runstate));
}

void runstate_change(struct vcpu *v, int state)
{
    uint64_t now = system_time_ns();

    WRITE_ONCE(v->runstate_version, v->runstate_version + 1);
    barrier();
    account_steal(v, now);
    if (now > v->runstate.state_entry_time)
        v->runstate.time[v->runstate.state] +=
            now - v->runstate.state_entry_time;
    v->runstate.state = state;
    v->runstate.state_entry_time = now;
    barrier();
    WRITE_ONCE(v->runstate_version, v->runstate_version + 1);
    runstate_publish(v);
}

/* Any vCPU's, with the time that it has been in its state. */
void runstate_read(struct vcpu *v, struct vcpu_runstate_info *out)
{
    uint64_t now = system_time_ns();
    uint32_t version;

    if (v == this_vcpu())
        runstate_change(v, v->runstate.state);
    do {
        version = READ_ONCE(v->runstate_version);
        barrier();
        memcpy(out, &v->runstate, sizeof(*out));
        barrier();
    } while (version & 1 || version != READ_ONCE(v->runstate_version));
    if (v != this_vcpu() && now > out->state_entry_time)
        out->time[out->state] += now - out->state_entry_time;
}
