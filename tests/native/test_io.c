/* SPDX-License-Identifier: GPL-2.0-or-later */
/* I/O ports: who may reach them, what they answer, and the string forms. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include <string.h>

#define USER_VA 0x400000UL /* two pages: the first writable, the second not */
#define KERNEL_VA 0xffffffff80000000UL
#define DF 0x400UL

static struct vcpu *vcpu;
static struct emu_frame *frame;

static uint64_t *table_at(uint64_t n)
{
    return machine(GUEST_MFN(n) << 12);
}

static unsigned char *page_at(uint64_t n)
{
    return machine(GUEST_MFN(n) << 12);
}

/* Guest page n at va, through tables from page `first` on. */
static void map(uint64_t root, uint64_t first, uint64_t va, uint64_t n,
                uint64_t bits)
{
    uint64_t t = root;

    for (int level = 4; level > 0; level--) {
        uint64_t *e = &table_at(t)[va >> (12 + 9 * (level - 1)) & 511];

        if (level == 1) {
            *e = GUEST_MFN(n) << 12 | bits;
            return;
        }
        t = first++;
        *e = GUEST_MFN(t) << 12 | 7;
    }
}

/* The user's root is page 1, with its pages 10 and 11; the kernel's page 0 has
 * page 12, where a bitmap may be. */
static void start(bool in_kernel)
{
    vcpu = native_start();
    frame = guest_frame(vcpu);
    memset(frame, 0, sizeof(*frame));
    frame->cs = FLAT_RING3_CS64;
    vcpu->pub.in_kernel = in_kernel;
    vcpu->pub.user_cr3 = GUEST_MFN(1) << 12;
    map(1, 2, USER_VA, 10, 7);
    map(1, 2, USER_VA + 0x1000, 11, 5);
    map(0, 5, KERNEL_VA, 12, 3);
}

/* Bytes of an instruction; at an address that is mapped in no root. */
static bool emulate(const char *bytes, unsigned int n)
{
    frame->rip = NATIVE_GUEST_VA + NATIVE_GUEST_BYTES - n;
    memcpy(&native_guest[NATIVE_GUEST_BYTES - n], bytes, n);
    native_crash = NULL;
    if (setjmp(native_back))
        return false;
    return emulate_privileged(vcpu, frame);
}

#define EMULATE(bytes) emulate(bytes, sizeof(bytes) - 1)
#define DONE_RIP (NATIVE_GUEST_VA + NATIVE_GUEST_BYTES)

TEST(privilege_of_the_kernel)
{
    start(true);
    CHECK(!EMULATE("\xec")); /* in (%dx), %al */
    CHECK(!EMULATE("\xfa")); /* cli */
    vcpu->iopl = 1;
    CHECK(EMULATE("\xec"));
    CHECK(EMULATE("\xfa"));
    vcpu->iopl = 0;
    emu_machine.vm_assist = 1UL << VMASST_TYPE_architectural_iopl;
    CHECK(EMULATE("\xec"));
    CHECK(EMULATE("\xfb"));
}

TEST(privilege_of_user_space)
{
    start(false);
    vcpu->iopl = 2;
    emu_machine.vm_assist = 1UL << VMASST_TYPE_architectural_iopl;
    CHECK(!EMULATE("\xec"));
    CHECK(!EMULATE("\xee"));
    CHECK(!EMULATE("\xfa"));
    CHECK(!EMULATE("\x6c"));
    vcpu->iopl = 3;
    CHECK(EMULATE("\xec"));
    CHECK(EMULATE("\xfa"));
}

TEST(bitmap)
{
    start(false);
    memset(page_at(12), 0xff, 4096);
    page_at(12)[0x80 / 8] = 0xfc; /* 0x80 and 0x81 */
    vcpu->iobitmap_va = KERNEL_VA;
    vcpu->iobitmap_ports = 0x100;
    frame->rdx = 0x80;
    CHECK(EMULATE("\xec"));
    CHECK_EQ(frame->rax, 0xff);
    CHECK(EMULATE("\x66\xed"));
    CHECK_EQ(frame->rax, 0xffff);
    CHECK(!EMULATE("\xed")); /* 0x82 and 0x83 are not */
    CHECK(EMULATE("\xe4\x81"));
    frame->rdx = 0x81;
    CHECK(!EMULATE("\x66\xed"));
    /* A word whose bits are in two bytes. */
    page_at(12)[0x88 / 8 - 1] = 0x7f;
    page_at(12)[0x88 / 8] = 0xfe;
    frame->rdx = 0x87;
    CHECK(EMULATE("\x66\xed"));
    /* Behind the bitmap's end; where it is not mapped. */
    memset(page_at(12), 0, 4096);
    frame->rdx = 0xff;
    CHECK(EMULATE("\xec"));
    CHECK(!EMULATE("\x66\xed"));
    vcpu->iobitmap_ports = 65536;
    frame->rdx = 0x7ff0;
    CHECK(EMULATE("\xec"));
    frame->rdx = 0x7fff; /* a second byte is on a page that is not there */
    CHECK(EMULATE("\xec"));
    CHECK(!EMULATE("\x66\xed"));
    frame->rdx = 0xffff;
    CHECK(!EMULATE("\xed"));
    vcpu->iobitmap_va = KERNEL_VA ^ 1UL << 60;
    frame->rdx = 0x10;
    CHECK(!EMULATE("\xec"));
    vcpu->iobitmap_va = DIRECTMAP_VIRT;
    frame->rdx = 0x10;
    CHECK(!EMULATE("\xec"));
}

static uint64_t in(uint64_t port, const char *insn, unsigned int n)
{
    frame->rax = 0x1122334455667788;
    frame->rdx = port;
    CHECK(emulate(insn, n));
    return frame->rax;
}

static void out(uint64_t port, uint64_t value, const char *insn, unsigned int n)
{
    frame->rax = value;
    frame->rdx = port;
    CHECK(emulate(insn, n));
}

TEST(what_ports_answer)
{
    start(true);
    vcpu->iopl = 1;
    CHECK_EQ(in(0x61, "\xec", 1), 0x11223344556677ff);
    CHECK_EQ(in(0x42, "\xec", 1), 0x1122334455667700);
    CHECK_EQ(in(0x43, "\xec", 1), 0x11223344556677ff);
    CHECK_EQ(in(0x3f8, "\x66\xed", 2), 0x112233445566ffff);
    CHECK_EQ(in(0x3f8, "\xed", 1), 0xffffffff);
    CHECK_EQ(in(0xcfc, "\xed", 1), 0xffffffff);
    /* The RTC's index is kept, and its data are nobody's. */
    out(0x70, 0x8a, "\xee", 1);
    CHECK_EQ(in(0x70, "\xec", 1), 0x112233445566778a);
    CHECK_EQ(in(0x71, "\xec", 1), 0x11223344556677ff);
    CHECK_EQ(in(0x70, "\x66\xed", 2), 0x112233445566ff8a);
    out(0x6f, 0x5500, "\x66\xef", 2);
    CHECK_EQ(in(0x70, "\xec", 1), 0x1122334455667755);
    /* The PCI address as a whole only. */
    out(0xcf8, 0x80001000, "\xef", 1);
    CHECK_EQ(in(0xcf8, "\xed", 1), 0x80001000);
    out(0xcf8, 0, "\xee", 1);
    CHECK_EQ(in(0xcf8, "\xed", 1), 0x80001000);
    CHECK_EQ(in(0xcf8, "\xec", 1), 0x11223344556677ff);
}

TEST(ins)
{
    start(false);
    vcpu->iopl = 3;
    frame->rdx = 0x3f8;
    frame->rdi = USER_VA + 0x10;
    frame->rcx = 5;
    CHECK(EMULATE("\xf3\x6d"));
    CHECK_EQ(frame->rip, DONE_RIP);
    CHECK_EQ(frame->rcx, 0);
    CHECK_EQ(frame->rdi, USER_VA + 0x24);
    CHECK(page_at(10)[0xf] == 0 && page_at(10)[0x10] == 0xff &&
          page_at(10)[0x23] == 0xff && page_at(10)[0x24] == 0);
    /* The page was used and written, and its table says so. */
    CHECK_EQ(table_at(4)[0] & 0x60, 0x60);
    /* Without rep, backwards, with rcx left alone. */
    frame->rflags = DF;
    frame->rcx = 9;
    frame->rdi = USER_VA + 0x100;
    CHECK(EMULATE("\x66\x6d"));
    CHECK_EQ(frame->rdi, USER_VA + 0xfe);
    CHECK_EQ(frame->rcx, 9);
    CHECK_EQ(native_trap.taken, 0);
}

TEST(ins_faults_in_the_middle)
{
    start(false);
    vcpu->iopl = 3;
    frame->rdi = USER_VA + 0xff0;
    frame->rcx = 100;
    CHECK(EMULATE("\xf3\x6c"));
    CHECK_EQ(frame->rip, DONE_RIP - 2);
    CHECK_EQ(frame->rcx, 84);
    CHECK_EQ(frame->rdi, USER_VA + 0x1000);
    CHECK_EQ(native_trap.vector, X86_TRAP_PF);
    CHECK_EQ(native_trap.cr2, USER_VA + 0x1000);
    CHECK_EQ(native_trap.error_code, PF_WRITE | PF_PRESENT);
    CHECK_EQ(page_at(11)[0], 0);
    /* A datum over the edge. */
    frame->rdi = USER_VA + 0xffe;
    CHECK(EMULATE("\x6d"));
    CHECK_EQ(native_trap.cr2, USER_VA + 0x1000);
    CHECK_EQ(frame->rdi, USER_VA + 0xffe);
    /* Not there at all; the kernel's, and emu's: not the user's. */
    frame->rdi = USER_VA + 0x2000;
    CHECK(EMULATE("\x6c"));
    CHECK_EQ(native_trap.error_code, PF_WRITE);
    frame->rdi = KERNEL_VA;
    CHECK(EMULATE("\x6c"));
    CHECK_EQ(native_trap.cr2, KERNEL_VA);
    CHECK_EQ(page_at(12)[0], 0);
    frame->rdi = DIRECTMAP_VIRT + EMU_SHARED_GPA;
    CHECK(EMULATE("\x6c"));
    CHECK_EQ(shared->magic, EMU_ABI_MAGIC);
    CHECK_EQ(native_trap.taken, 5);
    frame->rdi = 0x800000000000;
    CHECK(EMULATE("\x6c"));
    CHECK_EQ(native_trap.vector, X86_TRAP_GP);
}

TEST(outs)
{
    start(false);
    vcpu->iopl = 3;
    memcpy(&page_at(10)[0x20], "\x11\x22\x33\x44", 4);
    frame->rdx = 0x70;
    frame->rsi = USER_VA + 0x20;
    frame->rcx = 4;
    CHECK(EMULATE("\xf2\x6e")); /* either rep */
    CHECK_EQ(emu_machine.cmos_index, 0x44);
    CHECK_EQ(frame->rsi, USER_VA + 0x24);
    CHECK_EQ(frame->rcx, 0);
    /* From a page that may only be read; and from none. */
    page_at(11)[0xfff] = 0x77;
    frame->rsi = USER_VA + 0x1fff;
    frame->rcx = 2;
    CHECK(EMULATE("\xf3\x6e"));
    CHECK_EQ(emu_machine.cmos_index, 0x77);
    CHECK_EQ(frame->rcx, 1);
    CHECK_EQ(native_trap.vector, X86_TRAP_PF);
    CHECK_EQ(native_trap.cr2, USER_VA + 0x2000);
    CHECK_EQ(native_trap.error_code, 0);
}

TEST(address_size)
{
    start(false);
    vcpu->iopl = 3;
    frame->rdi = 0xffffffff00000000 | (USER_VA + 8);
    frame->rcx = 0xffffffff00000003;
    CHECK(EMULATE("\xf3\x67\x6c"));
    CHECK_EQ(frame->rdi, USER_VA + 11);
    CHECK_EQ(frame->rcx, 0);
    /* None to do: the registers lose their upper halves all the same, and
     * nobody asks for privilege. */
    vcpu->iopl = 0;
    frame->rdi = 0xffffffff00000005;
    frame->rcx = 0xffffffff00000000;
    CHECK(EMULATE("\x67\xf3\x6c"));
    CHECK_EQ(frame->rdi, 5);
    CHECK_EQ(frame->rcx, 0);
    frame->rcx = 1;
    CHECK(!EMULATE("\x67\xf3\x6c"));
    CHECK_EQ(frame->rcx, 1);
}

/* A long one is done in parts, and one that is stepped in single steps. */
TEST(in_parts)
{
    unsigned int rounds = 0;

    start(false);
    vcpu->iopl = 3;
    frame->rdi = USER_VA;
    frame->rcx = 4096;
    do {
        CHECK(EMULATE("\xf3\x6c"));
        CHECK_EQ(frame->rdi - USER_VA, 4096 - frame->rcx);
    } while (frame->rip != DONE_RIP && ++rounds < 100);
    CHECK(rounds > 1);
    CHECK_EQ(frame->rcx, 0);
    CHECK_EQ(native_trap.taken, 0);
    frame->rflags = RFLAGS_TF;
    frame->rdi = USER_VA;
    frame->rcx = 2;
    CHECK(EMULATE("\xf3\x6c"));
    CHECK_EQ(frame->rcx, 1);
    CHECK_EQ(frame->rip, DONE_RIP - 2);
    CHECK_EQ(native_trap.vector, X86_TRAP_DB);
    CHECK(EMULATE("\xf3\x6c"));
    CHECK_EQ(frame->rip, DONE_RIP);
    CHECK_EQ(native_trap.taken, 2);
}

/* 32-bit code: 0x48 is no prefix, segments have bases and limits. */
TEST(code_of_32_bits)
{
    start(false);
    vcpu->iopl = 3;
    vcpu->gdt[4] = 0x00cffb000000ffff; /* as init_gdt() has them */
    vcpu->gdt[5] = 0x00cff3000000ffff;
    frame->cs = 0xe023;
    CHECK(EMULATE("\xec"));
    CHECK_EQ(frame->rip, DONE_RIP);
    CHECK(!EMULATE("\x48\xec")); /* dec %eax */
    frame->cs = 0x33; /* no GDT of the guest's: nothing is known of it */
    CHECK(!EMULATE("\xec"));
    frame->cs = 0xe02b; /* data */
    CHECK(!EMULATE("\xec"));
}

/* Any instruction of the family with any registers ends, and emu is whole. */
TEST(any_registers)
{
    static const char op[] = "\x6c\x6d\x6e\x6f\xe4\xe6\xec\xed\xee\xef";
    static const char prefix[] = "\x66\x67\x64\x65\xf2\xf3\x48\x26";
    uint64_t seed = 5;

    for (unsigned int i = 0; i < 20000; i++) {
        uint64_t r = random64(&seed);
        char bytes[4] = {prefix[r & 7], prefix[r >> 3 & 7], op[(r >> 6) % 10],
                         (char)(r >> 10)};

        if (i % 100 == 0)
            start(i & 128);
        vcpu->iopl = 3;
        frame->rdx = random64(&seed);
        frame->rcx = random64(&seed) % 5000;
        frame->rdi = (r & 1 << 20 ? USER_VA : random64(&seed)) + r % 4096;
        frame->rsi = (r & 1 << 21 ? NATIVE_GUEST_VA : random64(&seed)) + r % 64;
        frame->rflags = r & (DF | RFLAGS_TF);
        emulate(bytes, sizeof(bytes));
        CHECK_EQ(shared->magic, EMU_ABI_MAGIC);
    }
}
