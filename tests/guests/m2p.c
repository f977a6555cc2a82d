/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine-to-physical table where Xen always has it, read without a
 * question, as Mini-OS and XTF do: with all that compilers make of a load.
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "m2p";
const bool asks_for_m2p = false;

static uint8_t page[PAGE_SIZE] PAGE_ALIGNED;

/* OP, reading its last operand at `at`, with 0x1122334455667788 in the first;
 * what is in it then. */
#define LOAD(op, modifier)                                               \
    ({                                                                   \
        uint64_t got_ = 0x1122334455667788;                              \
        PROBE_OP(op " (%1), %" modifier "0", : "+r"(got_) : "r"(at));    \
        check(!caught.taken, op, "vector %u error 0x%lx", caught.vector, \
              caught.error);                                             \
        got_;                                                            \
    })

#define OLD 0x1122334455667788UL

static void test_moves(const uint64_t *at, uint64_t pfn)
{
    check_eq("movq", LOAD("movq", ""), pfn);
    check_eq("movl", LOAD("movl", "k"), (uint32_t)pfn);
    check_eq("movw", LOAD("movw", "w"), (OLD & ~0xffffUL) | (pfn & 0xffff));
    check_eq("movb", LOAD("movb", "b"), (OLD & ~0xffUL) | (pfn & 0xff));
    check_eq("movzbl", LOAD("movzbl", "k"), pfn & 0xff);
    check_eq("movzwl", LOAD("movzwl", "k"), pfn & 0xffff);
    check_eq("movzwq", LOAD("movzwq", ""), pfn & 0xffff);
    check_eq("movsbl", LOAD("movsbl", "k"), (uint32_t)(int8_t)pfn);
    check_eq("movsbq", LOAD("movsbq", ""), (uint64_t)(int8_t)pfn);
    check_eq("movswq", LOAD("movswq", ""), (uint64_t)(int16_t)pfn);
    check_eq("movslq", LOAD("movslq", ""), (uint64_t)(int32_t)pfn);
}

static void test_arithmetic(const uint64_t *at, uint64_t pfn)
{
    bool equal = false, less = false;
    uint64_t got = OLD;

    check_eq("addq", LOAD("addq", ""), OLD + pfn);
    check_eq("subl", LOAD("subl", "k"), (uint32_t)(OLD - pfn));
    check_eq("orq", LOAD("orq", ""), OLD | pfn);
    check_eq("andq", LOAD("andq", ""), OLD & pfn);
    check_eq("xorq", LOAD("xorq", ""), OLD ^ pfn);
    PROBE_OP("cmpq (%3), %2\n\tsete %0\n\tsetb %1",
             : "=&q"(equal), "=&q"(less)
             : "r"(pfn), "r"(at));
    check(equal && !less, "cmp with what is there", "vector %u", caught.vector);
    PROBE_OP("cmpq %2, (%3)\n\tsete %0\n\tsetb %1",
             : "=&q"(equal), "=&q"(less)
             : "r"(pfn + 1), "r"(at));
    check(!equal && less, "cmp of what is there", "vector %u", caught.vector);
    PROBE_OP("cmpq $-1, (%1)\n\tsete %0", : "=&q"(equal) : "r"(at));
    check(!caught.taken && !equal, "cmp with -1", "vector %u", caught.vector);
    PROBE_OP("testq %1, (%2)\n\tsete %0", : "=&q"(equal) : "r"(~pfn), "r"(at));
    check(!caught.taken && equal, "test", "vector %u", caught.vector);
    PROBE_OP("testb $0xff, (%1)\n\tsete %0", : "=&q"(equal) : "r"(at));
    check(!caught.taken && equal == !(pfn & 0xff), "testb", "vector %u",
          caught.vector);
    PROBE_OP("xor %k0, %k0\n\tcmovzq (%1), %0", : "+&r"(got) : "r"(at));
    check_eq("cmovz", got, pfn);
}

static void test_addresses(const uint64_t *at, uint64_t pfn)
{
    uint64_t got = 0, index = mfn_of(page);

    PROBE_OP("movq (%1,%2,8), %0", : "=&r"(got) : "r"(m2p), "r"(index));
    check_eq("with an index", got, pfn);
    PROBE_OP("movq 0x12345(%1), %0",
             : "=&r"(got)
             : "r"((uint64_t)at - 0x12345));
    check_eq("with 32 bits", got, pfn);
    PROBE_OP("movq -8(%1), %0", : "=&r"(got) : "r"(at + 1));
    check_eq("with 8 bits", got, pfn);
    PROBE_OP("movabsq 0xffff800000000000, %%rax", : "=&a"(got) :);
    check_eq("with the address, of page 0", got, ~0UL);
    got = 5;
    PROBE_OP("movb 1(%1), %h0", : "+&a"(got) : "r"(at));
    check_eq("into a high byte", got, (pfn & 0xff00) | 5);
}

static void test_refusals(const uint64_t *at)
{
    uint64_t got, far = 0xffff807ffffffff8;

    PROBE_OP("movq %0, (%1)", : : "r"(7UL), "r"(at));
    check(caught.taken && caught.vector == X86_PF && caught.error & PF_W,
          "it is read-only", "vector %u", caught.vector);
    PROBE_OP("movq (%1), %0", : "=&r"(got) : "r"(far));
    check(caught.taken && caught.vector == X86_PF && caught.cr2 == far,
          "and has an end", "vector %u", caught.vector);
}

void guest_main(void)
{
    const uint64_t *at = &m2p[mfn_of(page)];
    uint64_t pfn = pfn_of(page);

    check_eq("m2p", READ_ONCE(*at), pfn);
    test_moves(at, pfn);
    test_arithmetic(at, pfn);
    test_addresses(at, pfn);
    test_refusals(at);
}
