/* SPDX-License-Identifier: GPL-2.0-or-later */
/* m2p_load.c beside the processor: what each load leaves in registers and
 * flags, for random values, from emu's table and from memory. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include <string.h>
#include <sys/mman.h>

#define ALIAS 0xffff800000000000UL
#define ARITHMETIC_FLAGS 0x8d5UL
#define AUXILIARY 0x10UL /* not defined after and, or, xor, test */

/* Memory at rbx + 8 * rsi + 0x40; rax, rcx, rdx and flags are looked at. */
static const struct {
    const char *name;
    uint8_t code[12];
    uint8_t bytes;
    bool is_logic;
} loads[] = {
    {"mov rax", {0x48, 0x8b, 0x44, 0xf3, 0x40}, 5, false},
    {"mov ecx", {0x8b, 0x4c, 0xf3, 0x40}, 4, false},
    {"mov dx", {0x66, 0x8b, 0x54, 0xf3, 0x40}, 5, false},
    {"mov al", {0x8a, 0x44, 0xf3, 0x40}, 4, false},
    {"mov ch", {0x8a, 0x6c, 0xf3, 0x40}, 4, false},
    {"movzx eax, byte", {0x0f, 0xb6, 0x44, 0xf3, 0x40}, 5, false},
    {"movzx dx, byte", {0x66, 0x0f, 0xb6, 0x54, 0xf3, 0x40}, 6, false},
    {"movzx rax, word", {0x48, 0x0f, 0xb7, 0x44, 0xf3, 0x40}, 6, false},
    {"movsx ecx, byte", {0x0f, 0xbe, 0x4c, 0xf3, 0x40}, 5, false},
    {"movsx rcx, word", {0x48, 0x0f, 0xbf, 0x4c, 0xf3, 0x40}, 6, false},
    {"movsxd rax", {0x48, 0x63, 0x44, 0xf3, 0x40}, 5, false},
    {"add rax", {0x48, 0x03, 0x44, 0xf3, 0x40}, 5, false},
    {"add cl", {0x02, 0x4c, 0xf3, 0x40}, 4, false},
    {"adc edx", {0x13, 0x54, 0xf3, 0x40}, 4, false},
    {"sbb ax", {0x66, 0x1b, 0x44, 0xf3, 0x40}, 5, false},
    {"sub ecx", {0x2b, 0x4c, 0xf3, 0x40}, 4, false},
    {"and dh", {0x22, 0x74, 0xf3, 0x40}, 4, true},
    {"or rax", {0x48, 0x0b, 0x44, 0xf3, 0x40}, 5, true},
    {"xor cx", {0x66, 0x33, 0x4c, 0xf3, 0x40}, 5, true},
    {"cmp rdx, m", {0x48, 0x3b, 0x54, 0xf3, 0x40}, 5, false},
    {"cmp m, al", {0x38, 0x44, 0xf3, 0x40}, 4, false},
    {"cmp m, ecx", {0x39, 0x4c, 0xf3, 0x40}, 4, false},
    {"cmp byte, 0x81", {0x80, 0x7c, 0xf3, 0x40, 0x81}, 5, false},
    {"cmp word, 0x1234", {0x66, 0x81, 0x7c, 0xf3, 0x40, 0x34, 0x12}, 7, false},
    {"cmp qword, imm32",
     {0x48, 0x81, 0x7c, 0xf3, 0x40, 0x78, 0x56, 0x34, 0x92},
     9,
     false},
    {"cmp dword, -1", {0x83, 0x7c, 0xf3, 0x40, 0xff}, 5, false},
    {"test m, rax", {0x48, 0x85, 0x44, 0xf3, 0x40}, 5, true},
    {"test byte, 0x55", {0xf6, 0x44, 0xf3, 0x40, 0x55}, 5, true},
    {"test dword", {0xf7, 0x44, 0xf3, 0x40, 1, 2, 3, 0x84}, 8, true},
    {"cmovo rax", {0x48, 0x0f, 0x40, 0x44, 0xf3, 0x40}, 6, false},
    {"cmovae ecx", {0x0f, 0x43, 0x4c, 0xf3, 0x40}, 5, false},
    {"cmovne dx", {0x66, 0x0f, 0x45, 0x54, 0xf3, 0x40}, 6, false},
    {"cmova eax", {0x0f, 0x47, 0x44, 0xf3, 0x40}, 5, false},
    {"cmovs rcx", {0x48, 0x0f, 0x48, 0x4c, 0xf3, 0x40}, 6, false},
    {"cmovp eax", {0x0f, 0x4a, 0x44, 0xf3, 0x40}, 5, false},
    {"cmovl rax", {0x48, 0x0f, 0x4c, 0x44, 0xf3, 0x40}, 6, false},
    {"cmovg edx", {0x0f, 0x4f, 0x54, 0xf3, 0x40}, 5, false},
};

struct state {
    uint64_t rax, rcx, rdx, flags;
};

/* The instruction itself, at `code`, with its memory 8 * rsi + 0x40 past rbx. */
static void on_processor(const void *code, struct state *s, const char *rbx,
                         uint64_t rsi)
{
    __asm__ volatile("push %3\n\tpopfq\n\tcall *%6\n\tpushfq\n\tpop %3"
                     : "+a"(s->rax), "+c"(s->rcx), "+d"(s->rdx), "+r"(s->flags)
                     : "b"(rbx), "S"(rsi), "r"(code)
                     : "memory", "cc");
    s->flags &= ARITHMETIC_FLAGS;
}

static void in_emu(struct vcpu *v, unsigned int nr, struct state *s,
                   uint64_t rsi, uint64_t offset)
{
    struct emu_frame f = {
        .rax = s->rax,
        .rcx = s->rcx,
        .rdx = s->rdx,
        .rflags = s->flags,
        .rbx = ALIAS + offset - 8 * rsi - 0x40,
        .rsi = rsi,
        .rip = NATIVE_GUEST_VA,
        .cs = FLAT_RING3_CS64,
        .error_code = PF_USER,
    };

    memcpy(native_guest, loads[nr].code, sizeof(loads[nr].code));
    CHECK(emulate_m2p_load(v, &f, ALIAS + offset));
    CHECK_EQ(f.rip, NATIVE_GUEST_VA + loads[nr].bytes);
    *s = (struct state){f.rax, f.rcx, f.rdx, f.rflags & ARITHMETIC_FLAGS};
}

TEST(as_the_processor)
{
    struct vcpu *v = native_start();
    uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t seed = 5;

    CHECK(code != MAP_FAILED);
    for (unsigned int nr = 0; nr < ARRAY_SIZE(loads); nr++) {
        uint64_t flags = ~(loads[nr].is_logic ? AUXILIARY : 0UL);

        memcpy(code, loads[nr].code, loads[nr].bytes);
        code[loads[nr].bytes] = 0xc3; /* ret */
        for (unsigned int round = 0; round < 300; round++) {
            uint64_t value = random64(&seed), rsi = random64(&seed) & 63;
            struct state theirs = {random64(&seed), random64(&seed),
                                   random64(&seed),
                                   random64(&seed) & ARITHMETIC_FLAGS};
            struct state ours;

            if (round & 1) /* small ones are equal now and then */
                value &= 1, theirs.rax &= 1, theirs.rcx &= 1;
            ours = theirs;
            memcpy((char *)m2p + 24, &value, sizeof(value));
            on_processor(code, &theirs, (const char *)m2p + 24 - 8 * rsi - 0x40,
                         rsi);
            in_emu(v, nr, &ours, rsi, 24);
            if (theirs.rax != ours.rax || theirs.rcx != ours.rcx ||
                theirs.rdx != ours.rdx ||
                (theirs.flags ^ ours.flags) & flags & ARITHMETIC_FLAGS)
                printf("%s\n", loads[nr].name);
            CHECK_EQ(ours.rax, theirs.rax);
            CHECK_EQ(ours.rcx, theirs.rcx);
            CHECK_EQ(ours.rdx, theirs.rdx);
            CHECK_EQ(ours.flags & flags, theirs.flags & flags);
        }
    }
    munmap(code, 4096);
}

/* Bytes of any kind: nothing outside the table is read, nothing is done twice. */
TEST(random_bytes)
{
    struct vcpu *v = native_start();
    uint64_t seed = 9, done = 0;

    for (unsigned int round = 0; round < 200000; round++) {
        struct emu_frame f = {.rip = NATIVE_GUEST_VA, .cs = FLAT_RING3_CS64};
        uint64_t *regs = (uint64_t *)&f;

        for (unsigned int i = 0; i < 15; i++)
            regs[i] = ALIAS + (random64(&seed) & 0x1fffff);
        for (unsigned int i = 0; i < 16; i++)
            native_guest[i] = (uint8_t)random64(&seed);
        if (emulate_m2p_load(v, &f, ALIAS)) {
            CHECK(f.rip - NATIVE_GUEST_VA <= 15);
            done++;
        } else {
            CHECK_EQ(f.rip, NATIVE_GUEST_VA);
        }
    }
    CHECK(done > 100);
}

TEST(refusals)
{
    static const uint8_t load[] = {0x48, 0x8b, 0x03}; /* mov (%rbx), %rax */
    struct vcpu *v = native_start();
    uint64_t end = ALIAS + shared->m2p_nr_entries * 8;
    struct emu_frame f = {.rip = NATIVE_GUEST_VA, .cs = FLAT_RING3_CS64};

    memcpy(native_guest, load, sizeof(load));
    f.rbx = end - 8;
    CHECK(emulate_m2p_load(v, &f, f.rbx));
    CHECK_EQ(f.rax, m2p[shared->m2p_nr_entries - 1]);
    f.rip = NATIVE_GUEST_VA;
    f.rbx = end - 7;
    CHECK(!emulate_m2p_load(v, &f, f.rbx));
    f.rbx = ALIAS - 4;
    CHECK(!emulate_m2p_load(v, &f, ALIAS));
    f.rbx = ALIAS;
    f.error_code = PF_WRITE;
    CHECK(!emulate_m2p_load(v, &f, f.rbx));
    f.error_code = 0;
    CHECK(!emulate_m2p_load(v, &f, NATIVE_GUEST_VA));
    v->pub.in_kernel = 0;
    CHECK(!emulate_m2p_load(v, &f, f.rbx));
}
