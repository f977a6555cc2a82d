/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's tick: when the LAPIC is left to repeat, and what ends that. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include "emu/clock.h"

static uint64_t now_ns;
#define system_time_ns() now_ns
#include "emu/tick.c"

#define PERIOD_NS 4000000UL
#define HANDLING_NS 40000UL /* from a tick to the guest's next request */

static struct vcpu *vcpu;
static uint64_t asked_ns;

/* A tick has come: the guest asks for the next, jitter_ns off. */
static void tick(uint64_t period_ns, uint64_t jitter_ns)
{
    now_ns = asked_ns + HANDLING_NS;
    asked_ns += period_ns;
    tick_deadline_set(vcpu, asked_ns + jitter_ns);
}

static void start_ticking(unsigned int nr)
{
    vcpu = native_start();
    asked_ns = 1000000000;
    for (unsigned int i = 0; i < nr; i++)
        tick(PERIOD_NS, i % 5 * 1000);
}

TEST(few_alike_are_guessed)
{
    start_ticking(STEADY - 1);
    CHECK_EQ(vcpu->tick_ns, 0);
    CHECK(vcpu->guess_tsc != 0);
    CHECK(!tick_keep(vcpu, asked_ns));
}

TEST(many_alike_repeat)
{
    start_ticking(STEADY + 4);
    CHECK_EQ(vcpu->tick_ns, PERIOD_NS);
    CHECK_EQ(native_cpu.msr_lvt_timer, APIC_TIMER_PERIODIC | EMU_VECTOR_TICK);
    CHECK_EQ(native_cpu.msr_timer_initial, PERIOD_NS);
    /* By itself the interrupt's entry would arm a deadline. */
    CHECK_EQ(vcpu->guess_tsc, 0);
}

TEST(nothing_is_told_while_it_repeats)
{
    unsigned int told;

    start_ticking(STEADY + 4);
    told = native_cpu.nr_wrmsr;
    for (unsigned int i = 0; i < REPEATS / 2; i++) {
        now_ns = vcpu->tick_at_ns;
        tick_fired(vcpu, now_ns, true);
        CHECK_EQ(vcpu->tick_at_ns, now_ns + PERIOD_NS);
        tick(PERIOD_NS, i % 5 * 1000);
        CHECK(tick_keep(vcpu, asked_ns));
        CHECK(tick_keep(vcpu, 0));
    }
    CHECK_EQ(native_cpu.nr_wrmsr, told);
}

TEST(it_is_looked_at_anew)
{
    start_ticking(STEADY + 4);
    for (unsigned int i = 0; i <= REPEATS; i++)
        tick_fired(vcpu, vcpu->tick_at_ns, true);
    CHECK_EQ(vcpu->tick_ns, 0);
    CHECK_EQ(native_cpu.msr_lvt_timer,
             APIC_TIMER_TSC_DEADLINE | EMU_VECTOR_TIMER);
}

TEST(one_sooner_ends_it)
{
    start_ticking(STEADY + 4);
    CHECK(tick_keep(vcpu, vcpu->tick_at_ns - LATE_NS + 1));
    CHECK(!tick_keep(vcpu, vcpu->tick_at_ns - LATE_NS));
    CHECK_EQ(vcpu->tick_ns, 0);
    CHECK_EQ(vcpu->armed_tsc, 0);
}

TEST(one_later_ends_it_when_nothing_is_due)
{
    start_ticking(STEADY + 4);
    CHECK(tick_keep(vcpu, now_ns + 100 * PERIOD_NS));
    tick_fired(vcpu, vcpu->tick_at_ns, false);
    CHECK_EQ(vcpu->tick_ns, 0);
}

TEST(missed_ones_are_missed)
{
    uint64_t at;

    start_ticking(STEADY + 4);
    at = vcpu->tick_at_ns;
    tick_fired(vcpu, at + 10 * PERIOD_NS + 5, true);
    CHECK_EQ(vcpu->tick_at_ns, at + 11 * PERIOD_NS);
}

/* Sooner than thought: the host's clock is not the guest's. */
TEST(never_later_than_the_distance)
{
    uint64_t at;

    start_ticking(STEADY + 4);
    at = vcpu->tick_at_ns - 20000;
    tick_fired(vcpu, at, true);
    CHECK_EQ(vcpu->tick_at_ns, at + PERIOD_NS);
}

TEST(what_varies_never_repeats)
{
    vcpu = native_start();
    asked_ns = 1000000000;
    for (unsigned int i = 0; i < 4 * STEADY; i++)
        tick(PERIOD_NS + i % 2 * 100000, 0);
    CHECK_EQ(vcpu->tick_ns, 0);
    /* Nor what comes too fast to be a tick. */
    for (unsigned int i = 0; i < 4 * STEADY; i++)
        tick(TICK_MIN_NS / 2, 0);
    CHECK_EQ(vcpu->tick_ns, 0);
}
