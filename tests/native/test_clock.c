/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The clock's arithmetic, at every rate that a TSC may have. */
#include "emu/clock.h"

#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

/* As the VM process computes it: ns = (ticks << shift) * mul >> 32. */
static void set_rate(uint64_t hz)
{
    uint64_t scaled = hz;
    int shift = 0;

    while (scaled > 2000000000) {
        scaled >>= 1;
        shift--;
    }
    while (scaled <= 1000000000) {
        scaled <<= 1;
        shift++;
    }
    shared->clock.tsc_shift = shift;
    shared->clock.tsc_to_system_mul =
        (uint32_t)(((__uint128_t)1000000000 << 32) / scaled);
    shared->tsc_khz = hz / 1000;
}

static uint64_t ns_at(uint64_t tsc)
{
    const struct emu_clock *c = &shared->clock;
    uint64_t delta = tsc - c->tsc_timestamp;

    delta = c->tsc_shift >= 0 ? delta << c->tsc_shift : delta >> -c->tsc_shift;
    return c->system_time_ns +
           (uint64_t)((__uint128_t)delta * c->tsc_to_system_mul >> 32);
}

TEST(deadline_is_not_early)
{
    static const uint64_t rates[] = {100000000,  999999999,  1000000000,
                                     1000000001, 2000000000, 2399999999,
                                     3300000000, 5000000000};
    uint64_t seed = 4;

    native_start();
    for (unsigned int i = 0; i < ARRAY_SIZE(rates); i++) {
        set_rate(rates[i]);
        for (unsigned int j = 0; j < 2000; j++) {
            uint64_t wait = 1 + (random64(&seed) >> (20 + j % 44)), ns, tsc;

            shared->clock.tsc_timestamp = random64(&seed) >> 8;
            shared->clock.system_time_ns = random64(&seed) >> 16;
            ns = shared->clock.system_time_ns + wait;
            this_vcpu()->clock = shared->clock;
            tsc = tsc_at(ns);
            /* The tick that ns falls in, or the next but one. */
            CHECK(ns_at(tsc) + 1 >= ns);
            CHECK(ns_at(tsc) <= ns + 20);
        }
    }
}

TEST(past_deadlines)
{
    native_start();
    set_rate(2000000000);
    shared->clock.system_time_ns = 1000;
    this_vcpu()->clock = shared->clock;
    CHECK_EQ(tsc_at(999), 1);
    CHECK_EQ(tsc_at(0), 1);
    CHECK(tsc_at(~0UL) > 1);
}

TEST(guest_time_is_even_and_whole)
{
    struct vcpu *v = native_start();

    set_rate(2400000000);
    shared->clock.version = 2;
    shared->clock.wc_sec = 0x100000007;
    shared->clock.wc_nsec = 9;
    update_time(v, true);
    CHECK_EQ(v->info->time.version % 2, 0);
    CHECK_EQ(v->info->time.tsc_to_system_mul, shared->clock.tsc_to_system_mul);
    CHECK_EQ(shinfo->wc_version % 2, 0);
    CHECK_EQ(shinfo->wc_sec, 7);
    CHECK_EQ(shinfo->wc_sec_hi, 1);
    CHECK_EQ(shinfo->wc_nsec, 9);
}

/* Registered areas are the kernel's: an interrupt of user space has its root
 * loaded, where it is fast, and does not find them there. */
TEST(areas_under_the_users_root)
{
    static const unsigned int pages[] = {0, 2, 3, 4, 5};
    const uint64_t va = 0xffffffff80000000UL;
    struct vcpu *v = native_start();
    const vcpu_time_info_t *t = machine(GUEST_MFN(5) << 12);
    const struct vcpu_runstate_info *r = machine((GUEST_MFN(5) << 12) + 512);

    for (unsigned int level = 4; level > 0; level--) {
        uint64_t *table = machine(GUEST_MFN(pages[4 - level]) << 12);
        uint64_t below = GUEST_MFN(pages[5 - level]) << 12;

        table[va >> (3 + 9 * level) & 511] = below | 7;
    }
    v->pub.in_kernel = 0;
    v->pub.user_cr3 = v->emu_cr3 = GUEST_MFN(1) << 12;
    v->time_va = va;
    v->runstate_va = va + 512;
    set_rate(2000000000);
    shared->clock.system_time_ns = 4711;
    update_time(v, true);
    CHECK_EQ(t->system_time, 4711);
    runstate_change(v, RUNSTATE_running);
    CHECK_EQ(r->state_entry_time, v->runstate.state_entry_time);
}
