/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of docs/msr-cpuid.md, on each vendor's processor. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include <string.h>

static struct vcpu *vcpu;
static struct emu_frame *frame;

/* #GP. */
#define FAULT 0xfa017fa017fa017fUL
#define I 1 /* on Intel's */
#define A 2 /* on AMD's */
#define H 4 /* on Hygon's */
#define ALL 7

static const char *const vendors[] = {"GenuntelineI", "AuthcAMDenti",
                                      "HygouineGenn"};

/* ebx, ecx, edx of leaf 0 as they are read. */
static void start(unsigned int vendor)
{
    vcpu = native_start();
    frame = guest_frame(vcpu);
    memset(frame, 0, sizeof(*frame));
    frame->cs = FLAT_RING3_CS64;
    vcpu->traps[X86_TRAP_GP].address = 0x1000;
    shared->nr_cpuid = 1;
    shared->cpuid[0] = (struct emu_cpuid){.eax = 13};
    memcpy(&shared->cpuid[0].ebx, vendors[vendor], 4);
    memcpy(&shared->cpuid[0].ecx, vendors[vendor] + 4, 4);
    memcpy(&shared->cpuid[0].edx, vendors[vendor] + 8, 4);
}

static bool emulate(uint8_t op, uint32_t msr)
{
    frame->rip = NATIVE_GUEST_VA;
    native_guest[0] = 0x0f;
    native_guest[1] = op;
    frame->rcx = 0xdeadbeef00000000 | msr;
    if (setjmp(native_back))
        return false;
    return emulate_privileged(vcpu, frame);
}

static uint64_t read_msr_at(uint32_t msr)
{
    return emulate(0x32, msr) ? frame->rax | frame->rdx << 32 : FAULT;
}

static bool write_msr_at(uint32_t msr, uint64_t value)
{
    frame->rax = 0xdeadbeef00000000 | (uint32_t)value;
    frame->rdx = 0xdeadbeef00000000 | value >> 32;
    return emulate(0x30, msr);
}

static const struct {
    uint32_t msr;
    unsigned int read, write; /* on whose it can be */
    uint64_t reads, writes;   /* as what; a value that can be written */
} known[] = {
    {0x0, ALL, 0, 0, 0},                      /* P5_MC_ADDR */
    {0x1, ALL, 0, 0, 0},                      /* P5_MC_TYPE */
    {0x17, I, 0, 0, 0},                       /* PLATFORM_ID */
    {0x1b, ALL, 0, 0xfee00900, 0},            /* APIC_BASE */
    {0x33, 0, 0, 0, 0},                       /* TEST_CTRL */
    {0x3a, I, 0, 1, 0},                       /* FEATURE_CONTROL */
    {0x48, 0, 0, 0, 0},                       /* SPEC_CTRL */
    {0x49, 0, 0, 0, 0},                       /* PRED_CMD */
    {0x79, 0, 0, 0, 0},                       /* UCODE_WRITE */
    {0x8b, ALL, I, 0, 0},                     /* UCODE_REV */
    {0xc1, I, I, 0, 5},                       /* PERFCTR0 */
    {0xc8, I, I, 0, 5},                       /* PERFCTR7 */
    {0xce, ALL, 0, 0, 0},                     /* PLATFORM_INFO */
    {0xe7, 0, ALL, 0, 1},                     /* MPERF */
    {0xe8, 0, ALL, 0, 1},                     /* APERF */
    {0x10a, 0, 0, 0, 0},                      /* ARCH_CAPABILITIES */
    {0x10b, 0, 0, 0, 0},                      /* FLUSH_CMD */
    {0x122, 0, 0, 0, 0},                      /* TSX_CTRL */
    {0x140, ALL, ALL, 0, 0},                  /* MISC_FEATURES_ENABLES */
    {0x174, 0, 0, 0, 0},                      /* SYSENTER_CS */
    {0x17a, ALL, ALL, 0, 4},                  /* MCG_STATUS, below again */
    {0x17b, ALL, ALL, 0, 1},                  /* MCG_CTL */
    {0x186, I, I, 0, 5},                      /* EVNTSEL0 */
    {0x189, I, I, 0, 5},                      /* EVNTSEL3 */
    {0x18a, 0, 0, 0, 0},                      /* EVNTSEL4 */
    {0x198, I, 0, 0, 0},                      /* PERF_STATUS */
    {0x199, I, I, 0, 7},                      /* PERF_CTL */
    {0x19a, 0, I, 0, 7},                      /* THERM_CONTROL */
    {0x19c, I, 0, 0, 0},                      /* THERM_STATUS */
    {0x1a0, I, I, 0x801801, 0},               /* MISC_ENABLE */
    {0x1b0, 0, I, 0, 6},                      /* ENERGY_PERF_BIAS */
    {0x1d9, ALL, ALL, 0, 0},                  /* DEBUGCTL */
    {0x277, ALL, 0, 0x050100070406, 0},       /* PAT */
    {0x280, ALL, ALL, 0, 0},                  /* MC0_CTL2 */
    {0x29f, ALL, ALL, 0, 1},                  /* MC31_CTL2 */
    {0x2ff, 0, 0, 0, 0},                      /* MTRR_DEF_TYPE */
    {0x309, I, I, 0, 5},                      /* FIXED_CTR0 */
    {0x345, ALL, 0, 0, 0},                    /* PERF_CAPABILITIES */
    {0x38d, I, I, 0, 5},                      /* FIXED_CTR_CTRL */
    {0x390, I, I, 0, 5},                      /* GLOBAL_OVF_CTRL */
    {0x400, ALL, ALL, ~0UL, 0},               /* MC0_CTL */
    {0x401, ALL, ALL, 0, 0},                  /* MC0_STATUS */
    {0x404, ALL, ALL, ~0UL, 7},               /* MC1_CTL */
    {0x408, ALL, ALL, 0, 7},                  /* MC2_CTL: there is none */
    {0x47f, ALL, ALL, 0, 7},                  /* MC31_MISC */
    {0x4d0, 0, 0, 0, 0},                      /* MCG_EXT_CTL */
    {0x560, 0, 0, 0, 0},                      /* RTIT_OUTPUT_BASE */
    {0x6a0, 0, 0, 0, 0},                      /* U_CET */
    {0x802, 0, 0, 0, 0},                      /* x2APIC ID */
    {0xda0, 0, 0, 0, 0},                      /* XSS */
    {0x40000001, 0, 0, 0, 0},                 /* behind Xen's only one */
    {0xc0000080, ALL, ALL, 0xd01, 0xd01},     /* EFER */
    {0xc0000081, 0, 0, 0, 0},                 /* STAR */
    {0xc0000082, 0, 0, 0, 0},                 /* LSTAR */
    {0xc0000103, 0, 0, 0, 0},                 /* TSC_AUX */
    {0xc0010000, A | H, A | H, 0, 5},         /* K7_EVNTSEL0 */
    {0xc0010007, A | H, A | H, 0, 5},         /* K7_PERFCTR3 */
    {0xc0010010, 0, 0, 0, 0},                 /* SYSCFG */
    {0xc0010015, A | H, A | H, 0x1000000, 0}, /* HWCR */
    {0xc001001f, ALL, ALL, 0, 5},             /* NB_CFG */
    {0xc0010020, 0, 0, 0, 0},                 /* PATCHLOADER */
    {0xc0010041, A, A | H, 0, 5},             /* FID_VID_CTL */
    {0xc0010064, A, A | H, 0, 5},             /* PSTATE0 */
    {0xc001011f, 0, 0, 0, 0},                 /* VIRT_SPEC_CTRL */
    {0xc0010200, A | H, A | H, 0, 5},         /* FAM15H_EVNTSEL0 */
    {0xc0011027, 0, 0, 0, 0},                 /* DR0_ADDRESS_MASK */
    {0xc0011029, A | H, A | H, 2, 5},         /* DE_CFG */
    {0xc0011030, 0, 0, 0, 0},                 /* IBS_FETCH_CTL */
    {0x12345678, 0, 0, 0, 0},
};

TEST(the_list)
{
    for (unsigned int vendor = 0; vendor < ARRAY_SIZE(vendors); vendor++) {
        for (unsigned int i = 0; i < ARRAY_SIZE(known); i++) {
            uint64_t want =
                known[i].read & 1U << vendor ? known[i].reads : FAULT;
            bool can = known[i].write & 1U << vendor;

            start(vendor);
            if (read_msr_at(known[i].msr) != want ||
                write_msr_at(known[i].msr, known[i].writes) != can) {
                printf("%#x on %s\n", known[i].msr, vendors[vendor]);
                failures++;
            }
        }
    }
}

TEST(what_cannot_be_written)
{
    for (unsigned int vendor = 0; vendor < ARRAY_SIZE(vendors); vendor++) {
        start(vendor);
        CHECK(!write_msr_at(0x8b, 1));
        CHECK(!write_msr_at(0x140, 1));
        CHECK(!write_msr_at(0x1d9, 2));
        CHECK(!write_msr_at(0x277, 0x050100070406));
        CHECK(!write_msr_at(0x401, 1));
        CHECK(!write_msr_at(0x406, 1));
        CHECK(!write_msr_at(0xc0000080, 0xd00));
        CHECK(!write_msr_at(0xc0000100, 1UL << 62));
        CHECK(!write_msr_at(0x40000000, 0)); /* emu's page */
        CHECK(!write_msr_at(0x40000000, GUEST_MFN(1) << 12 | 8));
        CHECK(!write_msr_at(0x40000000, 1UL << 60));
    }
}

TEST(machine_checks_keep_what_is_theirs)
{
    start(0);
    CHECK_EQ(read_msr_at(0x179), 0x1000c02);
    CHECK(write_msr_at(0x17a, 5) && write_msr_at(0x281, 0x40000001));
    CHECK_EQ(read_msr_at(0x17a), 5);
    CHECK_EQ(read_msr_at(0x281), 0x40000001);
    CHECK_EQ(read_msr_at(0x280), 0);
    start(1);
    CHECK_EQ(read_msr_at(0x179), 2);
    CHECK(write_msr_at(0x280, 1));
    CHECK_EQ(read_msr_at(0x280), 0);
}

TEST(families_of_amd)
{
    static const struct {
        uint32_t signature;
        bool has;
    } of[] = {{0x000f00, false},
              {0x100f00, true},
              {0x700f00, true},
              {0x800f00, false}};

    for (unsigned int i = 0; i < ARRAY_SIZE(of); i++) {
        start(1);
        shared->nr_cpuid = 2;
        shared->cpuid[1] =
            (struct emu_cpuid){.leaf = 1, .eax = of[i].signature};
        CHECK_EQ(read_msr_at(0xc0010058), of[i].has ? 0 : FAULT);
        CHECK_EQ(write_msr_at(0xc0010058, 1), of[i].has);
    }
}

/* A kernel without a handler yet reads zero where there is nothing. */
TEST(before_there_is_a_handler)
{
    start(1);
    vcpu->traps[X86_TRAP_GP].address = 0;
    CHECK_EQ(read_msr_at(0x12345678), 0);
    CHECK_EQ(read_msr_at(0x40000001), FAULT);
    CHECK(!write_msr_at(0x12345678, 0));
}

TEST(hypercall_page)
{
    static const uint8_t second[] = {0x51, 0x41, 0x53, 0xb8, 1,    0,    0,   0,
                                     0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3, 0xcc};
    static const uint8_t iret[] = {0x51, 0x41, 0x53, 0x50, 0xb8, 23,
                                   0,    0,    0,    0x0f, 0x05, 0xcc};
    const uint8_t *page;

    start(0);
    page = machine(GUEST_MFN(3) << 12);
    CHECK(write_msr_at(0x40000000, GUEST_MFN(3) << 12));
    CHECK(!memcmp(page + 32, second, sizeof(second)));
    CHECK(!memcmp(page + 23 * 32, iret, sizeof(iret)));
    CHECK_EQ(page[127 * 32 + 4], 127);
    CHECK_EQ(read_msr_at(0x40000000), 0);
}

TEST(user_space_has_none)
{
    start(1);
    vcpu->pub.in_kernel = 0;
    CHECK_EQ(read_msr_at(0x10), FAULT);
    CHECK(!write_msr_at(0xc001001f, 0));
}
