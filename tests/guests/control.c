/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bits of CR4 that are the guest's (TSD, DE, FSGSBASE, OSXSAVE), and what
 * the kernel and its user space can do with each of them set and clear.
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "control";

#define CR4_TSD 0x4UL
#define CR4_DE 0x8UL
#define CR4_PGE 0x80UL
#define CR4_SMEP 0x100000UL
#define CR4_FSGSBASE 0x10000UL
#define CR4_OSXSAVE 0x40000UL
#define CR4_OURS (CR4_TSD | CR4_DE | CR4_FSGSBASE | CR4_OSXSAVE)

#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static struct cpuid xen_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid c = {.eax = leaf, .ecx = subleaf};

    __asm__ volatile("ud2; .ascii \"xen\"; cpuid"
                     : "+a"(c.eax), "=b"(c.ebx), "+c"(c.ecx), "=d"(c.edx));
    return c;
}

static uint64_t read_cr4(void)
{
    uint64_t cr4;

    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    return cr4;
}

static void write_cr4(uint64_t cr4)
{
    PROBE_OP("mov %0, %%cr4", : : "r"(cr4));
    if (caught.taken)
        panic("mov to cr4");
}

static uint64_t rdmsr(uint32_t msr)
{
    uint32_t low = 0, high = 0;

    PROBE_OP("rdmsr", : "=&a"(low), "=&d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

USER static uint64_t user_cpuid(uint64_t arg)
{
    uint32_t eax = (uint32_t)arg, ebx, ecx = 0, edx;

    __asm__ volatile("ud2; .ascii \"xen\"; cpuid"
                     : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ecx & 1U << 27;
}

static void test_cr4(void)
{
    uint64_t cr4 = read_cr4();
    bool has_xsave = xen_cpuid(1, 0).ecx & 1U << 26;
    uint32_t osxsave = has_xsave ? 1U << 27 : 0;

    check_eq("all of ours are clear at first", cr4 & CR4_OURS, 0);
    write_cr4(cr4 | CR4_TSD | CR4_DE);
    check_eq("TSD and DE can be set", read_cr4(), cr4 | CR4_TSD | CR4_DE);
    write_cr4(cr4 | CR4_PGE | CR4_SMEP | 1UL << 40);
    check_eq("others cannot", read_cr4(), cr4);
    write_cr4(0);
    check_eq("nor be cleared", read_cr4(), cr4);
    check_eq("the kernel's CPUID has Xen's OSXSAVE",
             xen_cpuid(1, 0).ecx & 1U << 27, osxsave);
    check_eq("that of user space its kernel's", user_run(user_cpuid, 1), 0);
    write_cr4(cr4 | CR4_OSXSAVE);
    check_eq("OSXSAVE where there is XSAVE", read_cr4(),
             cr4 | (has_xsave ? CR4_OSXSAVE : 0));
    check_eq("CPUID follows", user_run(user_cpuid, 1), osxsave);
    write_cr4(cr4);
}

/* --- FSGSBASE ------------------------------------------------------------------ */

USER static uint64_t user_rdfsbase(uint64_t arg)
{
    uint64_t base;

    __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base + arg;
}

USER static uint64_t user_wrgsbase(uint64_t arg)
{
    __asm__ volatile("wrgsbase %0" ::"r"(arg) : "memory");
    return 1;
}

USER static uint64_t user_gs_word(uint64_t arg)
{
    uint64_t got;

    __asm__ volatile("movq %%gs:0, %0" : "=r"(got));
    return got + arg;
}

/* What a kernel does whether it has the instructions or not. */
static void test_bases(const char *with)
{
    static uint64_t words[2] = {0x6b, 0x66};
    uint64_t got = 0;

    print("bases, FSGSBASE %s\n", with);
    *(uint64_t *)user_data = 0x75;
    check_rc("set FS", CALL(set_segment_base, SEGBASE_FS, &words[1]), 0);
    check_rc("set GS kernel",
             CALL(set_segment_base, SEGBASE_GS_KERNEL, &words[0]), 0);
    check_rc("set GS user",
             CALL(set_segment_base, SEGBASE_GS_USER, USER_DATA_VA), 0);
    PROBE_OP("movq %%fs:0, %0", : "=&r"(got) :);
    check_eq("FS", got, 0x66);
    PROBE_OP("movq %%gs:0, %0", : "=&r"(got) :);
    check_eq("GS of the kernel", got, 0x6b);
    check_eq("GS of the user", user_run(user_gs_word, 0), 0x75);
    PROBE_OP("movq %%gs:0, %0", : "=&r"(got) :);
    check_eq("GS of the kernel again", got, 0x6b);
    check_eq("rdmsr FS", rdmsr(MSR_FS_BASE), (uint64_t)&words[1]);
    check_eq("rdmsr GS", rdmsr(MSR_GS_BASE), (uint64_t)&words[0]);
    check_eq("rdmsr KERNEL_GS", rdmsr(MSR_KERNEL_GS_BASE), USER_DATA_VA);
    check_rc("user selector NUL",
             CALL(set_segment_base, SEGBASE_GS_USER_SEL, 0), 0);
    check_eq("it clears the user's base", rdmsr(MSR_KERNEL_GS_BASE), 0);
    check_eq("not the kernel's", rdmsr(MSR_GS_BASE), (uint64_t)&words[0]);
}

static void test_refused_fsgsbase(void)
{
    uint64_t base;

    if (software_kvm()) {
        skip("no FSGSBASE", "a software KVM runs ring 3 with the host's CR4");
        return;
    }
    PROBE_OP("rdfsbase %0", : "=&r"(base) :);
    check_trap("rdfsbase without it", X86_UD, 0);
    PROBE_OP("wrgsbase %0", : : "r"(user_data));
    check_trap("wrgsbase without it", X86_UD, 0);
    user_run(user_rdfsbase, 0);
    check_eq("user rdfsbase without it", caught.vector, X86_UD);
    user_run(user_wrgsbase, USER_DATA_VA);
    check_eq("user wrgsbase without it", caught.vector, X86_UD);
}

static void test_fsgsbase(void)
{
    uint64_t cr4 = read_cr4(), base = 0;

    test_refused_fsgsbase();
    test_bases("clear");
    write_cr4(cr4 | CR4_FSGSBASE);
    if (!(xen_cpuid(7, 0).ebx & 1)) {
        check_eq("FSGSBASE cannot be set", read_cr4(), cr4);
        skip("FSGSBASE", "not offered by CPUID");
        return;
    }
    check_eq("FSGSBASE can be set", read_cr4(), cr4 | CR4_FSGSBASE);
    CALL(set_segment_base, SEGBASE_FS, 0x1000);
    PROBE_OP("rdfsbase %0", : "=&r"(base) :);
    check(!caught.taken, "rdfsbase", "vector %u", caught.vector);
    check_eq("what it reads", base, 0x1000);
    check_eq("user rdfsbase", user_run(user_rdfsbase, 1), 0x1001);
    check_eq("user wrgsbase", user_run(user_wrgsbase, USER_DATA_VA), 1);
    check_eq("it is the user's", rdmsr(MSR_KERNEL_GS_BASE), USER_DATA_VA);
    test_bases("set");
    write_cr4(cr4);
    test_refused_fsgsbase();
    test_bases("clear again");
}

/* --- TSD -------------------------------------------------------------------------- */

USER static uint64_t user_rdtsc(uint64_t arg)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return ((uint64_t)high << 32 | low) > arg;
}

static void test_tsd(void)
{
    bool has_rdtscp = xen_cpuid(0x80000001, 0).edx & 1U << 27;
    uint64_t cr4 = read_cr4(), before = rdtsc(), low = ~0UL, high = ~0UL;
    uint64_t aux = ~0UL;

    write_cr4(cr4 | CR4_TSD);
    PROBE_OP("rdtsc", : "+a"(low), "+d"(high) :);
    check(!caught.taken, "rdtsc of the kernel, TSD set", "vector %u",
          caught.vector);
    check((low | high) >> 32 == 0, "32 bits each", "0x%lx 0x%lx", low, high);
    low |= high << 32;
    check(low > before && low < rdtsc(), "it is the time", "0x%lx, 0x%lx later",
          before, low);
    if (has_rdtscp) {
        PROBE_OP("rdtscp", : "=a"(low), "=d"(high), "=c"(aux) :);
        check(!caught.taken, "rdtscp", "vector %u", caught.vector);
        check((low | high << 32) > before, "it is the time", "0x%lx", low);
    } else if (!software_kvm()) {
        PROBE("rdtscp");
        check(caught.taken, "rdtscp: CPUID has none", "it is carried out");
    }
    if (software_kvm()) {
        skip("#GP for user space",
             "a software KVM's ring 3 has the host's CR4");
    } else {
        user_run(user_rdtsc, 0);
        check(caught.vector == X86_GP && caught.error == 0, "user rdtsc",
              "vector %u error 0x%lx", caught.vector, caught.error);
    }
    write_cr4(cr4);
    check_eq("user rdtsc, TSD clear", user_run(user_rdtsc, before), 1);
    check(rdtsc() > before, "the kernel's", "it stands still");
}

/* --- XCR0 ------------------------------------------------------------------------- */

static void xsetbv(uint32_t index, uint64_t value)
{
    PROBE_OP("xsetbv",
             :
             : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

/* SDM vol 1, 13.3. */
static bool is_valid(uint32_t value, uint32_t offered)
{
    uint32_t avx512 = value & 0xe0;

    return value & 1 && !(value & ~offered) && (!(value & 4) || value & 2) &&
           (!avx512 || (avx512 == 0xe0 && value & 4));
}

/* Every pattern of the components up to PKRU, and one of each beyond. */
static void test_patterns(uint32_t offered)
{
    unsigned int wrong = 0;

    for (uint32_t value = 0; value < 0x400; value++) {
        xsetbv(0, value);
        if (caught.taken ? caught.vector != X86_GP || is_valid(value, offered)
                         : !is_valid(value, offered)) {
            print("xsetbv 0x%x: vector %u\n", value,
                  caught.taken ? caught.vector : 0);
            wrong++;
        }
    }
    for (unsigned int bit = 10; bit < 64; bit++) {
        xsetbv(0, 1UL << bit | 7);
        wrong += !caught.taken || caught.vector != X86_GP;
    }
    check_eq("patterns of XCR0 as the manual has them", wrong, 0);
}

static void test_xcr0(void)
{
    uint32_t low = 0, high = 0, offered = xen_cpuid(0xd, 0).eax;
    uint64_t cr4 = read_cr4();

    if (!(xen_cpuid(1, 0).ecx & 1U << 26)) {
        skip("XCR0", "no XSAVE for this guest");
        return;
    }
    xsetbv(0, offered);
    check_trap("xsetbv without OSXSAVE", X86_UD, 0);
    write_cr4(cr4 | CR4_OSXSAVE);
    xsetbv(0, offered);
    check(!caught.taken, "xsetbv: all that leaf 0xd offers", "vector %u 0x%x",
          caught.vector, offered);
    PROBE_OP("xgetbv", : "=&a"(low), "=&d"(high) : "c"(0));
    if (software_kvm() && low & ~offered)
        skip("XCR0 has no more than that", "this KVM leaves the host's");
    else
        check(!caught.taken && low == offered, "it is set", "0x%x", low);
    xsetbv(1, offered);
    check_trap("xsetbv: another register", X86_GP, 0);
    test_patterns(offered);
    xsetbv(0, offered);
    check(!caught.taken, "all of it again", "vector %u", caught.vector);
}

void guest_main(void)
{
    events_init();
    user_init();
    test_cr4();
    test_fsgsbase();
    test_tsd();
    test_xcr0();
}
