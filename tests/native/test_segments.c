/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Selectors, bases and debug registers on a processor like AMD's. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include <string.h>

#define KERNEL_BASE 0xffff888000001000UL
#define USER_BASE 0x7f0000001000UL

static struct vcpu *start(void)
{
    struct vcpu *v = native_start();

    native_cpu.gs_base = KERNEL_BASE;
    v->gs_inactive = USER_BASE;
    return v;
}

static int64_t set_user_selector(struct vcpu *v, uint64_t selector)
{
    return do_set_segment_base(v, SEGBASE_GS_USER_SEL, selector, 0, 0, 0);
}

/* A NUL selector keeps the base there: it must be nobody's. */
TEST(nul_selectors)
{
    for (uint64_t selector = 0; selector <= 3; selector++) {
        struct vcpu *v = start();

        CHECK_EQ(set_user_selector(v, selector), 0);
        CHECK_EQ(native_cpu.gs, selector);
        CHECK_EQ(native_cpu.gs_base, KERNEL_BASE);
        CHECK_EQ(v->gs_inactive, 0);
    }
}

TEST(refused_selectors)
{
    struct vcpu *v = start();

    CHECK_EQ(set_user_selector(v, 0x3f), 0);
    CHECK_EQ(native_cpu.gs, 0);
    CHECK_EQ(native_cpu.gs_base, KERNEL_BASE);
    CHECK_EQ(v->gs_inactive, 0);
}

TEST(privilege_is_the_users)
{
    struct vcpu *v = start();

    native_cpu.selectors = 1UL << 0x33;
    CHECK_EQ(set_user_selector(v, 0x30), 0);
    CHECK_EQ(native_cpu.gs, 0x33);
    CHECK_EQ(native_cpu.gs_base, KERNEL_BASE);
    CHECK_EQ(v->gs_inactive, 0x33);
}

/* VCPUOP_initialise: what is refused is NUL, and the bases are the context's. */
TEST(first_segments)
{
    struct vcpu *v = start();
    const uint16_t wanted[] = {0xe02b, 0x2b, 0x63, 0x3f};

    memcpy(v->selectors, wanted, sizeof(wanted));
    v->fs_base = 1;
    v->gs_base = 2;
    native_cpu.selectors = 1UL << (0xe02b % 64) | 1UL << (0x63 % 64);
    native_cpu.es = native_cpu.gs = 0x1b;
    CHECK(!load_first_segments(v));
    CHECK_EQ(native_cpu.ds, 0xe02b);
    CHECK_EQ(native_cpu.es, native_cpu.selectors >> 0x2b & 1 ? 0x2b : 0);
    CHECK_EQ(native_cpu.fs, 0x63);
    CHECK_EQ(native_cpu.gs, 0);
    native_cpu.selectors = ~0UL;
    CHECK(load_first_segments(v));
    CHECK_EQ(native_cpu.gs, 0x3f);
}

/* The frame of the failsafe callback has the selectors that were refused. */
TEST(refused_frame)
{
    struct vcpu *v = start();
    struct emu_frame *f = guest_frame(v);
    const struct callback to = {.rip = 0x1000};
    uint64_t words[11];

    memset(f, 0, sizeof(*f));
    for (unsigned int i = 0; i < 4; i++)
        v->selectors[i] = (uint16_t)(0x10 + i);
    f->rcx = 0xc;
    f->r11 = 0xb;
    f->rip = 0x1234;
    f->rsp = NATIVE_GUEST_VA + 0x1000;
    bounce(v, f, &to, BOUNCE_FAILSAFE | BOUNCE_REFUSED, 0);
    CHECK_EQ(f->rsp, NATIVE_GUEST_VA + 0x1000 - sizeof(words));
    memcpy(words, native_guest + 0x1000 - sizeof(words), sizeof(words));
    CHECK_EQ(words[0], 0xc);
    CHECK_EQ(words[1], 0xb);
    for (unsigned int i = 0; i < 4; i++)
        CHECK_EQ(words[2 + i], 0x10 + i);
    CHECK_EQ(words[6], 0x1234);
}

/* Any order of any values: the processor's DR7 never stops emu itself, and
 * nothing that stops at ports reaches it. */
TEST(any_debug_register)
{
    struct vcpu *v = start();
    uint64_t seed = 7;

    shared->quirks = 0;
    for (unsigned int i = 0; i < 100000; i++) {
        uint64_t r = random64(&seed), nr = r & 15;
        uint64_t value = random64(&seed) >> (r >> 8 & 63);

        if (r & 1 << 16)
            v->cr4_guest ^= CR4_DE;
        do_set_debugreg(v, nr, value, 0, 0, 0);
        CHECK_EQ(native_cpu.dr[7] & ~0xffff07ffUL, 0);
        for (unsigned int b = 0; b < 4; b++) {
            CHECK(!(native_cpu.dr[7] >> b * 2 & 3) ||
                  (native_cpu.dr[7] >> (16 + b * 4) & 3) != 2);
            CHECK(canonical(native_cpu.dr[b]) && !in_hole(native_cpu.dr[b]));
        }
        CHECK_EQ(port_breakpoints(v, 0x80, 4) & ~15U, 0);
    }
}

/* Widths and sides (SDM vol 3, 17.2.4). */
TEST(breakpoints_on_ports)
{
    static const uint8_t widths[] = {1, 2, 8, 4};
    struct vcpu *v = start();

    shared->quirks = 0;
    v->cr4_guest |= CR4_DE;
    do_set_debugreg(v, 2, 0x3fb, 0, 0, 0);
    for (uint64_t length = 0; length < 4; length++) {
        uint64_t first = 0x3fbU & ~(widths[length] - 1U);
        uint64_t end = first + widths[length];

        CHECK_EQ(
            do_set_debugreg(v, 7, 1 << 5 | 2 << 24 | length << 26, 0, 0, 0), 0);
        for (unsigned int port = 0x3e8; port < 0x408; port++)
            for (unsigned int bytes = 1; bytes <= 4; bytes *= 2)
                CHECK_EQ(port_breakpoints(v, port, bytes),
                         port < end && port + bytes > first ? 4 : 0);
    }
    v->cr4_guest &= ~(uint64_t)CR4_DE;
    CHECK_EQ(port_breakpoints(v, 0x3fb, 1), 0);
}

/* Nothing can be enabled where it would have no effect; all else is kept. */
TEST(no_breakpoints)
{
    struct vcpu *v = start();

    CHECK_EQ(do_set_debugreg(v, 7, 0xd0401, 0, 0, 0), -XEN_EPERM);
    CHECK_EQ(native_last_request, EMU_REQUEST_NOTICE);
    CHECK_EQ(v->pub.request.arg[0], EMU_NOTICE_BREAKPOINTS);
    CHECK_EQ(do_get_debugreg(v, 7, 0, 0, 0, 0), DR7_FIXED);
    CHECK_EQ(write_debugreg(v, 7, 0xd0401), 0);
    CHECK_EQ(do_get_debugreg(v, 7, 0, 0, 0, 0), 0xd0400);
    CHECK_EQ(write_debugreg(v, 7, 0x2001), -XEN_EPERM);
    CHECK_EQ(native_cpu.dr[7] & 0xff, 0);
}

/* Who initialises another vCPU asks for itself: its own request is answered. */
TEST(breakpoints_of_another)
{
    struct vcpu *v = start(), *other = vcpu_by_id(1);

    init_debugregs(other);
    native_last_request = 0;
    CHECK_EQ(do_set_debugreg(other, 7, 0xd0401, 0, 0, 0), -XEN_EPERM);
    CHECK_EQ(native_last_request, EMU_REQUEST_NOTICE);
    CHECK_EQ(v->pub.request.nr, EMU_REQUEST_NOTICE);
    CHECK_EQ(other->pub.request.nr, 0);
}
