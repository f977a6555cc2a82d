/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Debug registers, by hypercall and by `mov`, and what they stop. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "debugregs";

#define DR7_FIXED 0x400UL
#define DR7_GD 0x2000UL
#define DR7_L0 0x1UL
#define DR7_WRITE_8(n) (0x9UL << (16 + (n)*4))
#define DR7_IO_1(n) (0x2UL << (16 + (n)*4))
#define DR7_IO_2(n) (0x6UL << (16 + (n)*4))
#define DR6_BS 0x4000UL
#define CR4_DE 0x8UL

static uint64_t watched;

static int64_t set(unsigned int nr, uint64_t value)
{
    return CALL(set_debugreg, nr, value);
}

static uint64_t get(unsigned int nr)
{
    return (uint64_t)CALL(get_debugreg, nr);
}

static void set_cr4(uint64_t clear, uint64_t bits)
{
    uint64_t cr4;

    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    PROBE_OP("mov %0, %%cr4", : : "r"((cr4 & ~clear) | bits));
}

static void test_addresses(void)
{
    check_eq("DR6 at first", get(6), 0xffff0ff0);
    check_eq("DR7 at first", get(7), DR7_FIXED);
    check_rc("set DR0", set(0, (uint64_t)&watched), 0);
    check_eq("get DR0", get(0), (uint64_t)&watched);
    check_rc("set DR3", set(3, 0x1234), 0);
    check_eq("get DR3", get(3), 0x1234);
    check_rc("DR1 into Xen's hole", set(1, (uint64_t)XEN_POINTER), -XEN_EPERM);
    check_rc("DR1: not canonical", set(1, 0xdead000000000000), -XEN_EPERM);
    check_rc("DR8", set(8, 0), -XEN_ENODEV);
    check_rc("get DR8", (int64_t)get(8), -XEN_ENODEV);
    check_rc("DR6 of 33 bits", set(6, 1UL << 32), -XEN_EINVAL);
    check_rc("DR7 of 33 bits", set(7, 1UL << 32), -XEN_EINVAL);
    check_rc("DR7: general detect", set(7, DR7_GD), -XEN_EPERM);
    check_rc("DR6", set(6, 0xffffffff), 0);
    check_eq("its zeros", get(6), 0xffffefff);
    check_rc("DR6", set(6, 0), 0);
    check_eq("its ones", get(6), 0xffff0ff0);
    check_rc("DR7", set(7, 0xd800), 0);
    check_eq("its zeros and ones", get(7), DR7_FIXED);
}

/* DR4 and DR5 are names for DR6 and DR7, until CR4.DE takes them away. */
static void test_aliases(void)
{
    uint64_t value = 0;

    set_cr4(CR4_DE, 0);
    check_rc("DR4", set(4, DR6_BS), 0);
    check_eq("is DR6", get(6), 0xffff0ff0 | DR6_BS);
    check_eq("get DR4", get(4), get(6));
    check_rc("DR5", set(5, 0x500), 0);
    check_eq("is DR7", get(7), 0x500);
    PROBE_OP("mov %%db5, %0", : "=&r"(value) :);
    check(!caught.taken && value == 0x500, "mov from DR5", "vector %u, 0x%lx",
          caught.vector, value);
    set_cr4(0, CR4_DE);
    check_rc("DR4 with DE", set(4, 0), -XEN_ENODEV);
    check_rc("DR5 with DE", set(5, 0), -XEN_ENODEV);
    check_rc("get DR5 with DE", (int64_t)get(5), -XEN_ENODEV);
    PROBE_OP("mov %%db4, %0", : "=&r"(value) :);
    check_trap("mov from DR4 with DE", X86_UD, 0);
    PROBE_OP("mov %0, %%db5", : : "r"(value));
    check_trap("mov to DR5 with DE", X86_UD, 0);
    set_cr4(CR4_DE, 0);
    set(6, 0);
    set(7, 0);
}

static void test_mov(void)
{
    uint64_t value = 0;

    PROBE_OP("mov %0, %%db2", : : "r"(&watched));
    check(!caught.taken, "mov to DR2", "vector %u", caught.vector);
    check_eq("it is there", get(2), (uint64_t)&watched);
    PROBE_OP("mov %%db2, %0", : "=&r"(value) :);
    check_eq("mov from DR2", value, (uint64_t)&watched);
    PROBE_OP("mov %0, %%db2", : : "r"(XEN_POINTER));
    check_trap("mov to DR2: Xen's hole", X86_GP, 0);
    PROBE_OP("mov %0, %%db6", : : "r"(1UL << 32));
    check_trap("mov to DR6: 33 bits", X86_GP, 0);
    PROBE_OP("mov %0, %%db7", : : "r"(DR7_GD));
    check_trap("mov to DR7: general detect", X86_GP, 0);
    check_eq("DR2 as before", get(2), (uint64_t)&watched);
    set(2, 0);
}

static void test_watchpoint(void)
{
    if (software_kvm()) {
        check_rc("a breakpoint where there is none",
                 set(7, DR7_L0 | DR7_WRITE_8(0)), -XEN_EPERM);
        check_eq("and it is not said to be there", get(7), DR7_FIXED);
        PROBE_OP("mov %0, %%db7", : : "r"(DR7_L0 | DR7_WRITE_8(0)));
        check(!caught.taken, "mov to DR7: without effect", "vector %u",
              caught.vector);
        check_eq("as can be read", get(7) & 0xff, 0);
    } else {
        check_rc("set DR7", set(7, DR7_L0 | DR7_WRITE_8(0)), 0);
        check_eq("get DR7", get(7), DR7_L0 | DR7_WRITE_8(0) | DR7_FIXED);
        PROBE_OP("movq $1, %0", : "=m"(watched) :);
        check(caught.taken && caught.vector == X86_DB, "a write breakpoint",
              "vector %u", caught.vector);
        check_eq("DR6 says which", get(6) & 15, 1);
    }
    check_rc("clear DR7", set(7, 0), 0);
    PROBE_OP("movq $1, %0", : "=m"(watched) :);
    check(!caught.taken, "no breakpoint then", "vector %u", caught.vector);
}

/* What a hypercall reads: it is done as if there were no watchpoint. */
static void test_watched_argument(void)
{
    static struct xen_feature_info info;

    check_rc("watch an argument", set(0, (uint64_t)&info), 0);
    /* Reads and writes of four bytes (SDM vol 3, 17.2.4). */
    set(7, 0x000f0001);
    check_rc("a hypercall reads and writes it",
             CALL(xen_version, XENVER_get_features, &info), 0);
    set(7, 0);
    check(info.submap != 0, "and gives its answer", "0x%x", info.submap);
}

static void in_byte(uint16_t port)
{
    uint32_t value = 0;

    set(6, 0);
    PROBE_OP("inb %w1, %b0", : "+a"(value) : "d"(port));
}

/* On ports, which no processor sees here: emulation compares. */
static void test_ports(void)
{
    struct physdev_set_iopl iopl = {.iopl = 1};
    uint8_t bytes[3], *to = bytes;
    uint64_t count = sizeof(bytes);

    if (software_kvm()) {
        skip("breakpoints on ports", "a software KVM has none");
        return;
    }
    CALL(physdev_op, PHYSDEVOP_set_iopl, &iopl);
    check_rc("a port's address", set(1, 0x3f8), 0);
    check_rc("a breakpoint on a port without DE",
             set(7, DR7_L0 << 2 | DR7_IO_2(1)), -XEN_EPERM);
    set_cr4(0, CR4_DE);
    check_rc("with DE", set(7, DR7_L0 << 2 | DR7_IO_2(1)), 0);
    check_eq("get DR7", get(7), DR7_L0 << 2 | DR7_IO_2(1) | DR7_FIXED);
    in_byte(0x3f9);
    check(caught.taken && caught.vector == X86_DB && caught.rip == probe_end,
          "#DB behind the instruction", "vector %u at 0x%lx", caught.vector,
          caught.rip);
    check_eq("DR6 says which", get(6) & 15, 2);
    in_byte(0x3fa);
    check(!caught.taken, "not for the next port", "vector %u", caught.vector);
    set(6, 0);
    PROBE_OP("rep insb", : "+D"(to), "+c"(count) : "d"(0x3f8));
    check(caught.taken && caught.vector == X86_DB && caught.rip == probe_rip,
          "rep ins stops between two", "vector %u at 0x%lx", caught.vector,
          caught.rip);
    check_eq("after the first", caught.regs.rcx, 2);
    check_rc("clear DR7", set(7, DR7_IO_1(1)), 0);
    in_byte(0x3f8);
    check(!caught.taken, "not when it is off", "vector %u", caught.vector);
    set_cr4(CR4_DE, 0);
    set(7, 0);
    iopl.iopl = 0;
    CALL(physdev_op, PHYSDEVOP_set_iopl, &iopl);
}

/* A single step over what is emulated ends behind it, as any other. */
static void test_step(void)
{
    uint64_t cr4;

    set(6, 0);
    PROBE_OP("pushfq; orq $0x100, (%%rsp); popfq; mov %%cr4, %0\n\t"
             "nop; nop",
             : "=&r"(cr4)
             :);
    check(caught.taken && caught.vector == X86_DB, "single step",
          "vector %u taken %d", caught.vector, caught.taken);
    check_eq("behind the instruction", caught.rip, probe_end - 2);
    check_eq("DR6", get(6) & (DR6_BS | 15), DR6_BS);
}

void guest_main(void)
{
    events_init();
    test_addresses();
    test_aliases();
    test_mov();
    test_watchpoint();
    test_watched_argument();
    test_ports();
    test_step();
}
