/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads from the M2P at the address where guests look without asking, on a KVM
 * that keeps those addresses to itself (slow ring 0: PML4 slot 256 faults
 * whatever the root has there). Mini-OS, XTF, Unikraft and GNU Mach read it
 * with the first thing they do. What compilers make of a load: mov, movzx,
 * movsx, cmov, arithmetic with a source in memory, cmp and test.
 */
#include "emu/privop.h"

#define M2P_ALIAS_VIRT SLOT_VIRT(M2P_ALIAS_SLOT)

/* Arithmetic, as opcodes and modrm number it. */
enum { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP };

#define FLAG_CF 0x1UL
#define FLAG_PF 0x4UL
#define FLAG_AF 0x10UL
#define FLAG_ZF 0x40UL
#define FLAG_SF 0x80UL
#define FLAG_OF 0x800UL
#define FLAGS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

struct load {
    struct insn i;
    struct emu_frame *f;
    unsigned int bytes; /* of the operand */
    unsigned int reg;   /* the one that is not in memory, or the opcode's */
    uint64_t address;
    uint64_t value; /* that is there */
    bool is_rip_relative;
};

static uint64_t truncated(uint64_t value, unsigned int bytes)
{
    return bytes == 8 ? value : value & ((1UL << bytes * 8) - 1);
}

static uint64_t extended(uint64_t value, unsigned int bytes)
{
    unsigned int shift = 64 - bytes * 8;

    return (uint64_t)((int64_t)(value << shift) >> shift);
}

/* Without REX, numbers 4 to 7 of a byte's register are AH, CH, DH and BH. */
static bool is_high_byte(const struct load *l, unsigned int bytes)
{
    return bytes == 1 && !l->i.rex && l->reg >= 4;
}

static uint64_t read_reg(const struct load *l)
{
    if (is_high_byte(l, l->bytes))
        return *gpr(l->f, l->reg - 4) >> 8 & 0xff;
    return truncated(*gpr(l->f, l->reg), l->bytes);
}

static void write_reg(const struct load *l, uint64_t value, unsigned int bytes)
{
    uint64_t *to = gpr(l->f, is_high_byte(l, bytes) ? l->reg - 4 : l->reg);
    uint64_t mask = truncated(~0UL, bytes);
    unsigned int shift = is_high_byte(l, bytes) ? 8 : 0;

    if (bytes >= 4)
        *to = value & mask;
    else
        *to = (*to & ~(mask << shift)) | (value & mask) << shift;
}

/* --- decoding ------------------------------------------------------------- */

static bool fetch_signed(struct insn *i, unsigned int bytes, uint64_t *value)
{
    uint8_t byte;

    *value = 0;
    for (unsigned int n = 0; n < bytes; n++) {
        if (!fetch(i, &byte))
            return false;
        *value |= (uint64_t)byte << n * 8;
    }
    *value = bytes ? extended(*value, bytes) : 0;
    return true;
}

/* SDM vol 2, 2.1.5 and 2.2.1. */
static bool sib(struct load *l, uint8_t modrm, unsigned int *disp_bytes)
{
    unsigned int base, index;
    uint8_t byte;

    if (!fetch(&l->i, &byte))
        return false;
    base = (byte & 7U) | rex_base(l->i.rex);
    index = (byte >> 3 & 7U) | rex_index(l->i.rex);
    if ((byte & 7) == 5 && modrm >> 6 == 0)
        *disp_bytes = 4;
    else
        l->address = *gpr(l->f, base);
    if (index != 4)
        l->address += *gpr(l->f, index) << (byte >> 6);
    return true;
}

static bool memory_operand(struct load *l)
{
    unsigned int disp_bytes;
    uint64_t disp;
    uint8_t modrm;

    if (!fetch(&l->i, &modrm) || modrm >> 6 == 3)
        return false;
    l->reg = (modrm >> 3 & 7U) | rex_reg(l->i.rex);
    disp_bytes = modrm >> 6 == 1 ? 1 : modrm >> 6 == 2 ? 4 : 0;
    if ((modrm & 7) == 4) {
        if (!sib(l, modrm, &disp_bytes))
            return false;
    } else if (modrm >> 6 == 0 && (modrm & 7) == 5) {
        l->is_rip_relative = true;
        disp_bytes = 4;
    } else {
        l->address = *gpr(l->f, (modrm & 7U) | rex_base(l->i.rex));
    }
    if (!fetch_signed(&l->i, disp_bytes, &disp))
        return false;
    l->address += disp;
    return true;
}

/* The whole instruction has been decoded: what is in memory there? */
static bool look(struct load *l)
{
    uint64_t end = shared->m2p_nr_entries * sizeof(*m2p), at;

    if (l->is_rip_relative)
        l->address += l->f->rip + l->i.length;
    if (l->i.address_bytes == 4)
        l->address = (uint32_t)l->address;
    at = l->address - M2P_ALIAS_VIRT;
    if (at >= end || l->bytes > end - at)
        return false;
    l->value = 0;
    memcpy(&l->value, (const char *)m2p + at, l->bytes);
    return true;
}

/* --- doing ---------------------------------------------------------------- */

static bool is_odd(uint8_t value)
{
    value ^= value >> 4;
    return 0x6996 >> (value & 15) & 1;
}

/* a op b, with the flags of SDM vol 1, 3.4.3.1; AF of logic is not defined. */
static uint64_t calculate(struct load *l, unsigned int op, uint64_t a,
                          uint64_t b)
{
    uint64_t carry = (op == ADC || op == SBB) && l->f->rflags & FLAG_CF;
    uint64_t sign = 1UL << (l->bytes * 8 - 1), r, flags = 0;

    switch (op) {
    case ADD:
    case ADC:
        r = truncated(a + b + carry, l->bytes);
        flags |= r < a || (carry && r == a) ? FLAG_CF : 0;
        flags |= ~(a ^ b) & (a ^ r) & sign ? FLAG_OF : 0;
        flags |= (a ^ b ^ r) & 0x10 ? FLAG_AF : 0;
        break;
    case SUB:
    case CMP:
    case SBB:
        r = truncated(a - b - carry, l->bytes);
        flags |= a < b || (carry && a == b) ? FLAG_CF : 0;
        flags |= (a ^ b) & (a ^ r) & sign ? FLAG_OF : 0;
        flags |= (a ^ b ^ r) & 0x10 ? FLAG_AF : 0;
        break;
    default:
        r = op == OR ? a | b : op == AND ? a & b : a ^ b;
    }
    flags |= r ? 0 : FLAG_ZF;
    flags |= r & sign ? FLAG_SF : 0;
    flags |= is_odd((uint8_t)r) ? 0 : FLAG_PF;
    l->f->rflags = (l->f->rflags & ~FLAGS) | flags;
    return r;
}

/* SDM vol 2, table B-1 of conditions. */
static bool condition(uint64_t rflags, unsigned int nr)
{
    bool less = !(rflags & FLAG_SF) != !(rflags & FLAG_OF), is;

    switch (nr >> 1) {
    case 0:
        is = rflags & FLAG_OF;
        break;
    case 1:
        is = rflags & FLAG_CF;
        break;
    case 2:
        is = rflags & FLAG_ZF;
        break;
    case 3:
        is = rflags & (FLAG_CF | FLAG_ZF);
        break;
    case 4:
        is = rflags & FLAG_SF;
        break;
    case 5:
        is = rflags & FLAG_PF;
        break;
    case 6:
        is = less;
        break;
    default:
        is = less || rflags & FLAG_ZF;
    }
    return is != (nr & 1);
}

static bool two_byte(struct load *l)
{
    unsigned int to = l->bytes;
    bool is_cmov;
    uint8_t op;

    if (!fetch(&l->i, &op))
        return false;
    is_cmov = (op & 0xf0) == 0x40;
    if (!is_cmov && (op & 0xf6) != 0xb6) /* b6, b7, be, bf */
        return false;
    if (!is_cmov)
        l->bytes = op & 1 ? 2 : 1;
    if (!memory_operand(l) || !look(l))
        return false;
    if (is_cmov && !condition(l->f->rflags, op & 15))
        l->value = read_reg(l);
    write_reg(l, op & 8 && !is_cmov ? extended(l->value, l->bytes) : l->value,
              to);
    return true;
}

/* cmp and test of memory with a constant. */
static bool with_constant(struct load *l, uint8_t op)
{
    bool is_test = op >= 0xf6;
    uint64_t constant;

    if (!memory_operand(l) || (l->reg & 7) != (is_test ? 0 : CMP) ||
        !fetch_signed(&l->i,
                      op == 0x83 || l->bytes == 1 ? 1
                      : l->bytes == 2             ? 2
                                                  : 4,
                      &constant) ||
        !look(l))
        return false;
    calculate(l, is_test ? AND : CMP, l->value, truncated(constant, l->bytes));
    return true;
}

static bool move(struct load *l, uint8_t op)
{
    unsigned int to = l->bytes;

    if (op == 0xa0 || op == 0xa1) {
        l->reg = 0;
        if (!fetch_signed(&l->i, l->i.address_bytes, &l->address))
            return false;
    } else if (!memory_operand(l)) {
        return false;
    }
    if (op == 0x63)
        l->bytes = to < 4 ? to : 4;
    if (!look(l))
        return false;
    write_reg(l, op == 0x63 ? extended(l->value, l->bytes) : l->value, to);
    return true;
}

static bool arithmetic(struct load *l, uint8_t op)
{
    bool is_test = op == 0x84 || op == 0x85, memory_first = !(op & 2);
    unsigned int what = is_test ? AND : op >> 3 & 7;
    uint64_t reg, result;

    if (!memory_operand(l) || !look(l))
        return false;
    reg = read_reg(l);
    result = memory_first ? calculate(l, what, l->value, reg)
                          : calculate(l, what, reg, l->value);
    if (!is_test && what != CMP)
        write_reg(l, result, l->bytes);
    return true;
}

static bool one_byte(struct load *l, uint8_t op)
{
    switch (op) {
    case 0x8a:
    case 0x8b:
    case 0xa0:
    case 0xa1:
    case 0x63:
        return move(l, op);
    case 0x80:
    case 0x81:
    case 0x83:
    case 0xf6:
    case 0xf7:
        return with_constant(l, op);
    case 0x38:
    case 0x39:
    case 0x84:
    case 0x85:
        return arithmetic(l, op);
    default:
        return op < 0x40 && (op & 6) == 2 && arithmetic(l, op);
    }
}

/* True: done, rip is behind it. False: the guest gets its page fault. */
bool emulate_m2p_load(struct vcpu *v, struct emu_frame *f, uint64_t cr2)
{
    struct load l = {.f = f};
    uint8_t op;

    if (cr2 >> SLOT_SHIFT != M2P_ALIAS_VIRT >> SLOT_SHIFT ||
        !v->pub.in_kernel || f->error_code & (PF_WRITE | PF_FETCH) ||
        !read_code(v, f, &l.i) || l.i.code_bits != 64)
        return false;
    prefixes(&l.i);
    if (l.i.lock || l.i.repe || l.i.repne || l.i.segment >= SEG_FS ||
        !fetch(&l.i, &op))
        return false;
    l.bytes = rex_is_wide(l.i.rex) ? 8 : l.i.operand16 ? 2 : 4;
    /* Opcodes of bytes are even, but for movsxd. */
    if (op != 0x0f && op != 0x63 && !(op & 1))
        l.bytes = 1;
    if (op == 0x0f ? !two_byte(&l) : !one_byte(&l, op))
        return false;
    v->pub.counters.fixup++;
    move_on(f, &l.i);
    return true;
}
