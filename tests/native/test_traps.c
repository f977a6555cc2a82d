/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a guest is said to have stopped, when ring 0 is slow. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include "emu/traps.c"

/* The entry code's. */
char iret_to_guest[1], ring0_iret_to_guest[1], iret_refused[1],
    ring0_iret_refused[1], sysenter_ring0[1], sysenter_flags_saved[1];

uint64_t fixup_exception(uint64_t rip)
{
    return (void)rip, 0;
}

/* A process made a system call at 0x401000, and was stopped at the stub. */
static struct emu_frame at_stub(struct vcpu *v, uint64_t vector, uint64_t more)
{
    v->pub.in_kernel = 0;
    v->syscall_rsp = 0xffffc90000001000;
    return (struct emu_frame){
        .vector = vector,
        .rip = LSTAR_VIRT(v) + more,
        .rcx = 0x401002,
        .r11 = RFLAGS_FIXED | RFLAGS_IOPL | 1,
        .cs = FLAT_RING3_CS64,
        .ss = FLAT_RING3_SS64,
        .rflags = RFLAGS_FIXED,
        .rsp = 0x7ffc0000,
    };
}

TEST(a_fetch_at_the_stub_is_a_system_call)
{
    struct vcpu *v = native_start();
    struct emu_frame f = at_stub(v, X86_TRAP_PF, 0);

    CHECK(stopped_on_stub(v, &f));
    CHECK_EQ(f.rip, 0x401002);
    CHECK_EQ(f.rflags, RFLAGS_IF | RFLAGS_FIXED | 1);
    CHECK_EQ(f.vector, EMU_FRAME_SYSCALL);
}

/* The process may be on another vCPU when it goes on, with another stub. */
TEST(an_interrupt_at_the_stub_came_before_the_call)
{
    struct vcpu *v = native_start();

    for (uint64_t vector = EMU_VECTOR_TIMER; vector <= EMU_VECTOR_TICK;
         vector++) {
        struct emu_frame f = at_stub(v, vector, 0);

        CHECK(!stopped_on_stub(v, &f));
        CHECK_EQ(f.rip, 0x401000);
        CHECK_EQ(f.rflags, RFLAGS_IF | RFLAGS_FIXED | 1);
        CHECK_EQ(f.rsp, 0x7ffc0000);
        CHECK_EQ(f.vector, vector);
    }
}

/* It was not SYSCALL that went there; syscall_rsp is the kernel's. */
TEST(further_in_is_a_jump)
{
    struct vcpu *v = native_start();

    for (uint64_t more = 1; more < sizeof(v->lstar_stub); more++) {
        struct emu_frame f = at_stub(v, X86_TRAP_PF, more), was = f;

        CHECK(!stopped_on_stub(v, &f));
        CHECK(!memcmp(&f, &was, sizeof(f)));
    }
}

TEST(a_kernel_goes_back_with_its_stack)
{
    struct vcpu *v = native_start();

    for (uint64_t more = 0; more < 12; more += 6) {
        struct emu_frame f = at_stub(v, EMU_VECTOR_IPI, more);

        v->pub.in_kernel = 1;
        CHECK(!stopped_on_stub(v, &f));
        CHECK_EQ(f.rip, 0x401000);
        CHECK_EQ(f.rsp, more ? v->syscall_rsp : 0x7ffc0000);
    }
}
