/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slow ring 0: a guest's tick without telling the LAPIC of each. It asks for
 * one deadline after the other at the same distance. After two alike the third
 * is guessed, and told to the LAPIC by the interrupt that ends the second,
 * while it is at ring 0 anyway. After many the LAPIC repeats by itself, and
 * nobody tells it anything. A wrong guess costs one interrupt.
 */
#include "emu/clock.h"
#include "emu/privileged.h"

/* Ticks closer together than this are no tick. */
#define TICK_MIN_NS 1000000UL
/* A tick's requests jitter by some microseconds: guess a little late. */
#define JITTER_NS 30000UL
/* How late a tick may come when the LAPIC repeats. */
#define LATE_NS 300000UL
/* So many alike before that. */
#define STEADY 16
/* Then look anew: what the host takes for the distance is not quite it. */
#define REPEATS 256

static bool serves(const struct vcpu *v, uint64_t next_ns)
{
    return !next_ns || next_ns + LATE_NS > v->tick_at_ns;
}

static void stop(struct vcpu *v)
{
    v->tick_ns = 0;
    v->nr_alike = 0;
    v->armed_tsc = 0;
    wrmsr(MSR_X2APIC_LVT_TIMER, APIC_TIMER_TSC_DEADLINE | EMU_VECTOR_TIMER);
}

/* Have the LAPIC repeat from now on, if that gives what was asked for. */
static void start(struct vcpu *v, uint64_t timeout_ns)
{
    uint64_t now = system_time_ns();
    uint64_t mean_ns = (timeout_ns - v->tick_first_ns) / (v->nr_alike - 1);
    /* Whole microseconds, as ticks have them, and no jitter. */
    uint64_t period_ns = (mean_ns + 500) / 1000 * 1000;

    if (now + period_ns < timeout_ns ||
        now + period_ns > timeout_ns + LATE_NS / 2 || period_ns > UINT32_MAX)
        return;
    v->tick_ns = period_ns;
    v->tick_at_ns = now + period_ns;
    v->tick_left = REPEATS;
    v->guess_tsc = 0;
    wrmsr(MSR_X2APIC_LVT_TIMER, APIC_TIMER_PERIODIC | EMU_VECTOR_TICK);
    wrmsr(MSR_X2APIC_TIMER_INITIAL, period_ns);
}

/* The guest has asked for this deadline, 0: none. */
void tick_deadline_set(struct vcpu *v, uint64_t timeout_ns)
{
    uint64_t delta = timeout_ns - v->last_singleshot_ns;
    uint64_t jitter = delta - v->last_delta_ns + JITTER_NS;
    bool is_alike =
        timeout_ns && delta >= TICK_MIN_NS && jitter <= 2 * JITTER_NS;

    v->last_delta_ns = delta;
    v->last_singleshot_ns = timeout_ns;
    if (v->tick_ns)
        return;
    v->guess_tsc = is_alike ? tsc_at(timeout_ns + delta + JITTER_NS) : 0;
    if (!is_alike) {
        v->nr_alike = 0;
        return;
    }
    if (!v->nr_alike++)
        v->tick_first_ns = timeout_ns;
    if (v->nr_alike >= STEADY)
        start(v, timeout_ns);
}

/* True: the LAPIC goes on repeating, which serves the next deadline (0: none).
 * One that is later waits for the repetition that finds nothing due. */
bool tick_keep(struct vcpu *v, uint64_t next_ns)
{
    if (!v->tick_ns)
        return false;
    if (serves(v, next_ns))
        return true;
    stop(v);
    return false;
}

/* It has repeated; is_due: for something. */
void tick_fired(struct vcpu *v, uint64_t now_ns, bool is_due)
{
    if (!v->tick_ns)
        return;
    if (!is_due || !v->tick_left--) {
        stop(v);
        return;
    }
    /* Never later than the distance from here; some may have been missed. */
    if (v->tick_at_ns > now_ns)
        v->tick_at_ns = now_ns;
    while (v->tick_at_ns <= now_ns)
        v->tick_at_ns += v->tick_ns;
}
