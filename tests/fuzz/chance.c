/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The generator, and values at which something may be off by one. */
#include "fuzz.h"

static uint64_t state = 1;

/* A step of splitmix64, so that near seeds are far from each other. */
void seed(uint64_t value)
{
    value = (value + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
    value = (value ^ value >> 27) * 0x94d049bb133111eb;
    state = (value ^ value >> 31) | 1;
}

uint64_t any(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

unsigned int below(unsigned int n)
{
    return (unsigned int)(any() >> 33) % n;
}

bool one_in(unsigned int n)
{
    return below(n) == 0;
}

void scribble(void *to, size_t bytes)
{
    uint8_t *p = to;

    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(any() >> 40);
}

/* Xen's hole as xenner fills it (abi/layout.h), and Linux's own places. */
static const uint64_t addresses[] = {
    0,
    1,
    PAGE,
    LOW_CODE,
    LOW_NOTHING,
    LOW_STACK_TOP,
    0x7fffffff,
    0x80000000,
    0xffffffff,
    0x100000000,
    LAST_PAGE,
    LAST_PAGE + PAGE,
    0x7fffffffffff,
    0x800000000000,
    0xdead000000000000,
    0x8000000000000000,
    0xffff7fffffffffff,
    0xffff800000000000, /* M2P, slot 256 */
    0xffff808000000000, /* all memory: notes, emu, ... */
    0xffff808000010000,
    0xffff808000200000, /* ... struct emu_shared, events, tables */
    0xffff808000203000,
    0xffff808000210000,
    0xffff808000300000, /* ... vCPU 0's block: head, trace, GDT */
    0xffff808000304000,
    0xffff808000305000,
    0xffff808000307800, /* ... its stacks' ends, and what is just below */
    0xffff808000307ed0,
    0xffff808000307f00,
    0xffff808000308000,
    0xffff808000800000,
    0xffff810000000000,
    0xffff818000000000, /* windows onto GDT and LDT */
    0xffff81800000e000,
    0xffff81800000e040,
    0xffff818000200000,
    0xffff818000400000, /* the SYSCALL stubs' alias */
    0xffff818000505100,
    0xffff818000505108,
    0xffff820000000000,
    0xffff87ffffffffff,
    0xffff880000000000,
    0xffff888000000000,
    0xffffc90000000000,
    0xfffffe0000000000,
    0xffffffff80000000,
    0xffffffff81000000,
    0xffffffffff600000, /* vsyscall */
    0xffffffffff600400,
    0xffffffffff600fff,
    0xffffffffffffffff,
};

uint64_t known_address;

uint64_t address(void)
{
    uint64_t a = addresses[below(ARRAY_SIZE(addresses))];

    if (known_address && one_in(8))
        return known_address;
    switch (below(6)) {
    case 0:
        return a + below(16);
    case 1:
        return a - below(16);
    case 2:
        return a + below(0x2000);
    case 3: /* somewhere in slots 255 to 272 */
        return one_in(2) ? a : (0xff00UL + below(18)) << 39 | any() >> 25;
    case 4: /* this program's */
        return one_in(4) ? (uint64_t)&addresses : a;
    default:
        return a;
    }
}

uint64_t word(void)
{
    switch (below(6)) {
    case 0:
        return any();
    case 1:
        return any() & 0xff;
    case 2:
        return 1UL << below(64);
    case 3:
        return (1UL << below(64)) - 1;
    case 4:
        return ~0UL << below(64);
    default:
        return address();
    }
}

/* Linux's, the LDT's, and those of the hypervisor. */
static const uint16_t selectors[] = {
    0,      3,      0x8,    0x10,   0x18,   0x1b,   0x23,   0x2b,   0x33,
    0x3b,   0x43,   0x4b,   0x53,   0x5b,   0x63,   0x6b,   0x73,   0x7b,
    0x7,    0xf,    0x17,   0x1f,   0x27,   0x2f,   0x37,   0x3f,   0xfff7,
    0xdfff, 0xdffb, 0xe000, 0xe003, 0xe008, 0xe00b, 0xe010, 0xe013, 0xe018,
    0xe019, 0xe01b, 0xe020, 0xe023, 0xe028, 0xe02b, 0xe030, 0xe033, 0xe038,
    0xe03b, 0xe040, 0xe043, 0xe048, 0xe04b, 0xe050, 0xe053, 0xe05b, 0xe07b,
    0xe07f, 0xe083, 0xefff, 0xfffb, 0xffff,
};

uint16_t selector(void)
{
    return one_in(4) ? (uint16_t)any()
                     : selectors[below(ARRAY_SIZE(selectors))];
}

/* TF, IF, IOPL, NT, RF, VM, AC, VIF, VIP, ID beside the ordinary. */
uint64_t eflags(void)
{
    static const uint32_t odd[] = {0x100,   0x200,   0x400,    0x3000,
                                   0x4000,  0x8000,  0x10000,  0x20000,
                                   0x40000, 0x80000, 0x100000, 0x200000};
    uint64_t flags = 0x202 | (any() & 0x8d5);

    for (unsigned int i = below(4); i > 0; i--)
        flags ^= odd[below(ARRAY_SIZE(odd))];
    return one_in(16) ? any() : flags;
}
