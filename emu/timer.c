/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The timers that fire VIRQ_TIMER. The LAPIC's TSC-deadline timer is armed for
 * whatever comes first of single-shot timer, periodic timer and poll timeout.
 */
#include "emu/clock.h"
#include "emu/privileged.h"

/* Slow ring 0: what the LAPIC may be late to save telling it. */
#define LATE_NS 100000UL

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

void timer_program(struct vcpu *v)
{
    uint64_t next =
        earliest(v->singleshot_ns, earliest(v->periodic_next_ns, v->poll_ns));
    uint64_t tsc;

    if (tick_keep(v, next))
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
        tick_fired(v, now, is_due);
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

int64_t do_set_timer_op(struct vcpu *v, guest_word timeout_ns, guest_word a2,
                        guest_word a3, guest_word a4, guest_word a5)
{
    v->singleshot_ns = timeout_ns;
    if (slow_ring0())
        tick_deadline_set(v, timeout_ns);
    if (timeout_ns && timeout_ns <= system_time_ns()) {
        v->singleshot_ns = 0;
        send_virq(v, VIRQ_TIMER);
    }
    timer_program(v);
    return 0;
}
