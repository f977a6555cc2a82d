/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The decoder of privileged instructions: known ones, and any bytes at all. */
#include "emu/privop.h"
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include <string.h>

static struct vcpu *vcpu;
static struct emu_frame *frame;

/* Emulate bytes at the end of a mapped page. False: refused or crashed. */
static bool emulate(const uint8_t *bytes, unsigned int n)
{
    frame->rip = NATIVE_GUEST_VA + NATIVE_GUEST_BYTES - n;
    memcpy(&native_guest[NATIVE_GUEST_BYTES - n], bytes, n);
    native_crash = NULL;
    if (setjmp(native_back))
        return false;
    return emulate_privileged(vcpu, frame);
}

static void start(void)
{
    vcpu = native_start();
    frame = guest_frame(vcpu);
    init_gdt(vcpu);
    frame->cs = FLAT_RING3_CS64;
    vcpu->cr0_guest = 0x80050033;
    vcpu->cr4_guest = 0x40620;
    vcpu->iopl = 1;
    memset(frame, 0, sizeof(*frame));
    frame->cs = FLAT_RING3_CS64;
    frame->rcx = 1;
    frame->rsi = frame->rdi = NATIVE_GUEST_VA;
}

static const struct {
    const char *name;
    uint8_t bytes[8];
    unsigned int length;
} known[] = {
    {"mov %cr0, %rax", {0x0f, 0x20, 0xc0}, 3},
    {"mov %cr3, %r15", {0x41, 0x0f, 0x20, 0xdf}, 4},
    {"mov %cr4, %rbx", {0x0f, 0x20, 0xe3}, 3},
    {"mov %rax, %cr2", {0x0f, 0x22, 0xd0}, 3},
    {"mov %dr7, %rax", {0x0f, 0x21, 0xf8}, 3},
    {"clts", {0x0f, 0x06}, 2},
    {"rdtsc", {0x0f, 0x31}, 2},
    {"wbinvd", {0x0f, 0x09}, 2},
    {"in $0x70, %al", {0xe4, 0x70}, 2},
    {"in (%dx), %eax", {0xed}, 1},
    {"in (%dx), %ax", {0x66, 0xed}, 2},
    {"out %al, $0x70", {0xe6, 0x70}, 2},
    {"out %eax, (%dx)", {0xef}, 1},
    {"out %al, (%dx), rex", {0x48, 0xee}, 2},
    {"insb", {0x6c}, 1},
    {"rep insl", {0xf3, 0x6d}, 2},
    {"outsw %fs:(%esi)", {0x64, 0x67, 0x66, 0x6f}, 4},
    {"sti", {0xfb}, 1},
};

/* What Xen leaves to the guest's #GP handler. */
static const struct {
    const char *name;
    uint8_t bytes[8];
    unsigned int length;
} refused[] = {
    {"hlt", {0xf4}, 1},
    {"invd", {0x0f, 0x08}, 2},
    {"rdpmc", {0x0f, 0x33}, 2},
    {"sysret", {0x48, 0x0f, 0x07}, 3},
    {"sysexit", {0x0f, 0x35}, 2},
    {"lmsw %ax", {0x0f, 0x01, 0xf0}, 3},
    {"lgdt (%rax)", {0x0f, 0x01, 0x10}, 3},
    {"lidt (%rax)", {0x0f, 0x01, 0x18}, 3},
    {"invlpg (%rax)", {0x0f, 0x01, 0x38}, 3},
    {"invlpg 8(%rsp)", {0x0f, 0x01, 0x7c, 0x24, 8}, 5},
    {"swapgs", {0x0f, 0x01, 0xf8}, 3},
    {"lldt %ax", {0x0f, 0x00, 0xd0}, 3},
    {"ltr %ax", {0x0f, 0x00, 0xd8}, 3},
    {"mov %cr8, %rax", {0x44, 0x0f, 0x20, 0xc0}, 4},
    {"mov %rax, %cr8", {0x44, 0x0f, 0x22, 0xc0}, 4},
    {"mov %cr1, %rax", {0x0f, 0x20, 0xc8}, 3},
    {"lock mov %cr0, %rax", {0xf0, 0x0f, 0x20, 0xc0}, 4},
    {"nop", {0x90}, 1},
};

TEST(refused_instructions)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(refused); i++) {
        start();
        if (emulate(refused[i].bytes, refused[i].length)) {
            printf("not refused: %s\n", refused[i].name);
            failures++;
        }
        CHECK_EQ(frame->rip,
                 NATIVE_GUEST_VA + NATIVE_GUEST_BYTES - refused[i].length);
        CHECK_EQ(frame->rax, 0);
    }
}

TEST(known_instructions)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(known); i++) {
        start();
        if (!emulate(known[i].bytes, known[i].length)) {
            printf("refused: %s\n", known[i].name);
            failures++;
            continue;
        }
        if (frame->rip != NATIVE_GUEST_VA + NATIVE_GUEST_BYTES) {
            printf("wrong length: %s\n", known[i].name);
            failures++;
        }
    }
}

/* With its end unmapped: refused, or no longer than it would have been. */
TEST(cut_short)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(known); i++) {
        uint64_t begin;

        if (known[i].length < 2)
            continue;
        start();
        begin = NATIVE_GUEST_VA + NATIVE_GUEST_BYTES - known[i].length + 1;
        if (emulate(known[i].bytes, known[i].length - 1))
            CHECK(frame->rip > begin && frame->rip <= begin + known[i].length);
        else
            CHECK_EQ(frame->rip, begin);
    }
}

TEST(user_space_gets_nothing)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(known); i++) {
        start();
        vcpu->pub.in_kernel = 0;
        CHECK(!emulate(known[i].bytes, known[i].length));
        CHECK_EQ(frame->rip,
                 NATIVE_GUEST_VA + NATIVE_GUEST_BYTES - known[i].length);
    }
}

/* The time, and where CPUID has RDTSCP, of processor 0. */
TEST(time_stamps)
{
    static const uint8_t rdtscp[] = {0x0f, 0x01, 0xf9}, tsc[] = {0x0f, 0x31};

    start();
    frame->rax = frame->rdx = ~0UL;
    CHECK(emulate(tsc, sizeof(tsc)));
    CHECK(frame->rax >> 32 == 0 && frame->rdx >> 32 == 0);
    CHECK(!emulate(rdtscp, sizeof(rdtscp)));
    shared->nr_cpuid = 1;
    shared->cpuid[0] = (struct emu_cpuid){.leaf = 0x80000001, .edx = 1 << 27};
    frame->rcx = ~0UL;
    CHECK(emulate(rdtscp, sizeof(rdtscp)));
    CHECK_EQ(frame->rcx, 0);
}

/* A single step goes on behind what was emulated. */
TEST(single_step)
{
    static const uint8_t clts[] = {0x0f, 0x06};

    start();
    CHECK(emulate(clts, sizeof(clts)));
    CHECK(!native_trap.taken);
    frame->rflags |= RFLAGS_TF;
    CHECK(emulate(clts, sizeof(clts)));
    CHECK_EQ(native_trap.vector, X86_TRAP_DB);
    CHECK_EQ(vcpu->dr[6], DR6_FIXED | DR6_BS);
}

/* What is not there is #UD, a bad value #GP. */
TEST(refusals)
{
    static const uint8_t to_dr4[] = {0x0f, 0x23, 0xe0},
                         to_dr7[] = {0x0f, 0x23, 0xf8};
    static const uint8_t xsetbv[] = {0x0f, 0x01, 0xd1};

    start();
    frame->rcx = 0;
    vcpu->cr4_guest = CR4_DE;
    CHECK(emulate(to_dr4, sizeof(to_dr4)));
    CHECK_EQ(native_trap.vector, X86_TRAP_UD);
    native_trap.taken = 0;
    frame->rax = 1UL << 32;
    CHECK(!emulate(to_dr7, sizeof(to_dr7)));
    CHECK(!native_trap.taken);
    CHECK(emulate(xsetbv, sizeof(xsetbv)));
    CHECK_EQ(native_trap.vector, X86_TRAP_UD);
    vcpu->cr4_guest = CR4_OSXSAVE;
    shared->xcr0 = 0xe7;
    for (uint64_t value = 0; value < 0x400; value++) {
        bool fits = value == 1 || value == 3 || value == 7 || value == 0xe7;

        frame->rax = value;
        CHECK_EQ(emulate(xsetbv, sizeof(xsetbv)), fits);
    }
}

/* --- segments of 32 and 16 bits ------------------------------------------------ */

#define CODE_BASE (NATIVE_GUEST_VA + 0x1000)
#define CODE_LIMIT 0xefff /* to the end of what is mapped */

/* In emu's own part of the GDT, where FLAT_RING3_CS32 is. */
static void use_segment(unsigned int bits, uint32_t base, uint32_t limit)
{
    vcpu->gdt[4] = 0x0000fb0000000000UL | (limit & 0xffff) |
                   (uint64_t)(limit >> 16 & 15) << 48 |
                   (uint64_t)(base & 0xffffff) << 16 |
                   (uint64_t)(base >> 24) << 56 | (bits == 32 ? 1UL << 54 : 0);
    frame->cs = FLAT_RING3_CS32;
}

static const struct {
    const char *name;
    uint8_t bytes[8];
    unsigned int length, bits;
    bool known;
} narrow[] = {
    {"in $0x70, %al", {0xe4, 0x70}, 2, 32, true},
    {"inc %ecx before it", {0x41, 0xe4, 0x70}, 3, 32, false},
    {"rdmsr", {0x0f, 0x32}, 2, 32, true},
    {"in (%dx), %al", {0xec}, 1, 16, true},
};

TEST(narrow_segments)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(narrow); i++) {
        uint64_t at = CODE_LIMIT + 1 - narrow[i].length;

        start();
        use_segment(narrow[i].bits, CODE_BASE, CODE_LIMIT);
        frame->rcx = 0x10; /* the TSC */
        memcpy(&native_guest[NATIVE_GUEST_BYTES - narrow[i].length],
               narrow[i].bytes, narrow[i].length);
        frame->rip = at;
        CHECK_EQ(emulate_privileged(vcpu, frame), narrow[i].known);
        CHECK_EQ(frame->rip, narrow[i].known ? CODE_LIMIT + 1 : at);
        /* Cut by the limit. */
        use_segment(narrow[i].bits, CODE_BASE, (uint32_t)at - 1);
        frame->rip = at;
        CHECK(!emulate_privileged(vcpu, frame));
    }
}

TEST(operands_follow_the_segment)
{
    static const struct {
        uint8_t bytes[2];
        unsigned int length, bits;
        uint64_t rax;
    } cases[] = {
        {{0xed}, 1, 64, 0xffffffff},       {{0xed}, 1, 32, 0xffffffff},
        {{0xed}, 1, 16, 0x1234ffff},       {{0x66, 0xed}, 2, 32, 0x1234ffff},
        {{0x66, 0xed}, 2, 16, 0xffffffff},
    };

    for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
        start();
        frame->rip = cases[i].bits == 64 ? CODE_BASE : 0;
        if (cases[i].bits != 64)
            use_segment(cases[i].bits, CODE_BASE, CODE_LIMIT);
        frame->rax = 0x12345678;
        frame->rdx = 0x60;
        memcpy(&native_guest[0x1000], cases[i].bytes, cases[i].length);
        CHECK(emulate_privileged(vcpu, frame));
        CHECK_EQ(frame->rax, cases[i].rax);
    }
}

TEST(rex_counts_before_the_opcode_only)
{
    start();
    /* rex.b 66 mov %cr0: into rax, not r8. */
    memcpy(native_guest, "\x41\x66\x0f\x20\xc0", 5);
    frame->rip = NATIVE_GUEST_VA;
    frame->r8 = 5;
    CHECK(emulate_privileged(vcpu, frame));
    CHECK_EQ(frame->r8, 5);
    CHECK_EQ(frame->rax, 0x80050033);
}

/* No code segment, or none at all: the guest's #GP. */
TEST(selectors_without_code)
{
    static const uint16_t bad[] = {0,      3,      7,      0xf,
                                   0x33,   0xe02b, 0xe043, 0xe07b,
                                   0xe083, 0xe0fb, 0xf003, 0xffff};

    start();
    native_guest[0] = 0xec;
    for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
        frame->rip = NATIVE_GUEST_VA;
        frame->cs = bad[i];
        CHECK(!emulate_privileged(vcpu, frame));
        CHECK_EQ(frame->rip, NATIVE_GUEST_VA);
    }
}

/* One of the LDT, as far as the guest said that it goes. */
TEST(segments_of_the_ldt)
{
    uint64_t *l1, *table;

    start();
    l1 = machine(EMU_TABLES_GPA + EMU_TABLE_L1_LDT * PAGE_SIZE);
    table = machine(GUEST_MFN(3) << PAGE_SHIFT);
    l1[0] = GUEST_MFN(3) << PAGE_SHIFT | PTE_P;
    table[2] = vcpu->gdt[6];
    native_guest[0] = 0xec;
    frame->rip = NATIVE_GUEST_VA;
    frame->cs = 2 * 8 | 7;
    vcpu->ldt_entries = 2;
    CHECK(!emulate_privileged(vcpu, frame));
    vcpu->ldt_entries = 3;
    CHECK(emulate_privileged(vcpu, frame));
}

TEST(int_instructions)
{
    static const struct {
        uint8_t bytes[4];
        unsigned int length;
        int vector; /* -1: none */
    } cases[] = {
        {{0xcd, 0x80}, 2, 0x80},     {{0x66, 0x2e, 0xcd, 0x21}, 4, 0x21},
        {{0xcc}, 1, X86_TRAP_BP},    {{0xce}, 1, X86_TRAP_OF},
        {{0x48, 0xcd, 0x80}, 3, -1}, {{0x0f, 0x0b}, 2, -1},
    };

    for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t opcode, vector = 0;

        start();
        use_segment(32, CODE_BASE, CODE_LIMIT);
        memcpy(&native_guest[0x1000], cases[i].bytes, cases[i].length);
        frame->rip = 0;
        frame->rflags = RFLAGS_OF;
        CHECK_EQ(skip_int(vcpu, frame, &opcode, &vector), cases[i].vector >= 0);
        CHECK_EQ(frame->rip, cases[i].vector >= 0 ? cases[i].length : 0);
        if (cases[i].vector >= 0)
            CHECK_EQ(vector, cases[i].vector);
    }
}

TEST(any_bytes)
{
    static const uint8_t likely_bytes[] = {0x0f, 0x20, 0x22, 0x23, 0x01, 0x30,
                                           0x32, 0xe4, 0x6c, 0x6e, 0xf4, 0xfa,
                                           0x66, 0xf3, 0x41, 0x48};
    uint64_t seed = 99;

    for (unsigned int i = 0; i < 200000; i++) {
        uint8_t bytes[15];
        unsigned int n = 1 + (unsigned int)(random64(&seed) % sizeof(bytes));
        bool done;

        if (i % 1000 == 0) {
            start();
            use_segment(32, 0, 0xfffff);
            vcpu->gdt[4] |= 1UL << 55; /* in pages */
        }
        frame->cs = i & 1 ? FLAT_RING3_CS32 : FLAT_RING3_CS64;
        for (unsigned int j = 0; j < n; j++) {
            uint64_t r = random64(&seed);

            bytes[j] = r & 1 ? (uint8_t)(r >> 8)
                             : likely_bytes[(r >> 8) % sizeof(likely_bytes)];
        }
        frame->rax = random64(&seed);
        frame->rcx = 0xc0000080 + random64(&seed) % 4 * 0x80;
        done = emulate(bytes, n);
        CHECK(!done || (frame->rip > NATIVE_GUEST_VA &&
                        frame->rip <= NATIVE_GUEST_VA + NATIVE_GUEST_BYTES));
        vcpu->pub.in_kernel = 1;
    }
}

static void row(uint32_t n, uint32_t subleaf, uint32_t eax, uint32_t ebx)
{
    shared->nr_cpuid = n + 1;
    shared->cpuid[n] = (struct emu_cpuid){.leaf = 0xd,
                                          .subleaf = subleaf,
                                          .flags = EMU_CPUID_SUBLEAF,
                                          .eax = eax,
                                          .ebx = ebx,
                                          .ecx = subleaf ? 0 : 11008};
}

static uint32_t xsave_bytes(uint32_t subleaf)
{
    frame->rax = 0xd;
    frame->rcx = subleaf;
    cpuid(vcpu, frame);
    return (uint32_t)frame->rbx;
}

/* A processor with AMX, which the guest is not offered. */
TEST(xsave_size)
{
    start();
    row(0, 0, 7, 832);
    row(1, 1, 1, 0);
    row(2, 2, 256, 576);
    /* Ring 3 has the host's XCR0: there has to be room for it... */
    CHECK_EQ(xsave_bytes(0), 11008);
    CHECK(write_xcr0(vcpu, 7));
    CHECK_EQ(xsave_bytes(0), 11008);
    CHECK(write_xcr0(vcpu, 3));
    CHECK_EQ(xsave_bytes(0), 11008);
    /* ...but for a kernel that knows what it has enabled. */
    xsave_bytes(1);
    CHECK(write_xcr0(vcpu, 7));
    CHECK_EQ(xsave_bytes(0), 832);
    CHECK(write_xcr0(vcpu, 3));
    CHECK_EQ(xsave_bytes(0), 576);
    /* On hardware it has what it has set. */
    start();
    row(0, 0, 7, 832);
    row(1, 2, 256, 576);
    shared->quirks = 0;
    CHECK_EQ(xsave_bytes(0), 576);
    CHECK(write_xcr0(vcpu, 7));
    CHECK_EQ(xsave_bytes(0), 832);
    shared->nr_cpuid = 0;
    CHECK_EQ(xsave_bytes(0), 0);
}

TEST(forced_cpuid)
{
    static const uint8_t bytes[] = {0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2};

    start();
    shared->nr_cpuid = 1;
    shared->cpuid[0] = (struct emu_cpuid){
        .leaf = 0x40000000, .eax = 1, .ebx = 2, .ecx = 3, .edx = 4};
    frame->rax = 0x40000000;
    frame->rip = NATIVE_GUEST_VA;
    memcpy(native_guest, bytes, sizeof(bytes));
    CHECK(emulate_forced(vcpu, frame));
    CHECK_EQ(frame->rip, NATIVE_GUEST_VA + sizeof(bytes));
    CHECK(frame->rax == 1 && frame->rbx == 2 && frame->rcx == 3 &&
          frame->rdx == 4);
    /* Cut off at the end of what is mapped: not ours. */
    frame->rip = NATIVE_GUEST_VA + NATIVE_GUEST_BYTES - 6;
    memcpy(&native_guest[NATIVE_GUEST_BYTES - 6], bytes, 6);
    CHECK(!emulate_forced(vcpu, frame));
}
