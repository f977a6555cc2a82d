/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The flight recorder: neighbours that are alike are one entry. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

static struct vcpu *vcpu;

static void call(uint32_t nr, uint64_t arg, uint64_t result)
{
    trace_result(vcpu, trace(vcpu, EMU_TRACE_HYPERCALL, nr, 0x1000, arg, 0),
                 result);
}

TEST(repeats_are_one)
{
    vcpu = native_start();
    call(29, 0, 0);
    for (unsigned int i = 0; i < 1000; i++)
        call(29, 1, 0);
    call(29, 0, 0);
    CHECK_EQ(vcpu->pub.trace_next, 3);
    CHECK_EQ(vcpu->trace[0].repeats, 0);
    CHECK_EQ(vcpu->trace[1].repeats, 999);
    CHECK(vcpu->trace[1].last_tsc >= vcpu->trace[1].tsc);
    CHECK_EQ(vcpu->trace[2].repeats, 0);
}

/* Where the ring begins anew, too. */
TEST(repeats_at_the_end)
{
    vcpu = native_start();
    for (uint64_t i = 0; i < EMU_TRACE_ENTRIES; i++)
        call(1, i, 0);
    call(1, EMU_TRACE_ENTRIES - 1, 0);
    CHECK_EQ(vcpu->pub.trace_next, EMU_TRACE_ENTRIES);
    call(1, 0, 0);
    call(1, 0, 0);
    CHECK_EQ(vcpu->pub.trace_next, EMU_TRACE_ENTRIES + 1);
    CHECK_EQ(vcpu->trace[0].repeats, 1);
}

TEST(another_result_is_another_entry)
{
    vcpu = native_start();
    call(12, 0, 5);
    call(12, 0, 5);
    call(12, 0, (uint64_t)-XEN_EINVAL);
    call(12, 0, (uint64_t)-XEN_EINVAL);
    CHECK_EQ(vcpu->pub.trace_next, 2);
    CHECK_EQ(vcpu->trace[0].result, 5);
    CHECK_EQ(vcpu->trace[0].repeats, 1);
    CHECK_EQ(vcpu->trace[1].result, -XEN_EINVAL);
    CHECK_EQ(vcpu->trace[1].repeats, 1);
}

/* A multicall's result comes after the entries of what was in it. */
TEST(a_result_finds_its_entry)
{
    uint32_t outer;

    vcpu = native_start();
    outer = trace(vcpu, EMU_TRACE_HYPERCALL, 13, 0x1000, 1, 2);
    call(17, 4, 4096);
    call(17, 4, 4096);
    trace_result(vcpu, outer, 7);
    CHECK_EQ(vcpu->trace[0].result, 7);
    CHECK_EQ(vcpu->trace[1].result, 4096);
    CHECK_EQ(vcpu->trace[1].repeats, 1);
    outer = trace(vcpu, EMU_TRACE_HYPERCALL, 13, 0x1000, 1, 2);
    for (uint64_t i = 0; i < EMU_TRACE_ENTRIES; i++)
        call(1, i, 9);
    trace_result(vcpu, outer, 7);
    for (unsigned int i = 0; i < EMU_TRACE_ENTRIES; i++)
        CHECK_EQ(vcpu->trace[i].result, 9);
}
