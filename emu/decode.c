/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of an instruction of the guest's, and what its code segment makes
 * of them: 64, 32 or 16 bits, from which base on. As Xen, the segment is what
 * the tables have now (pv_emul_read_descriptor in its emulate.c); the processor
 * may run on what it loaded before, and then the guest gets its fault.
 */
#include "emu/privop.h"

/* As many as there are of those that are wanted. */
static void read_bytes(struct insn *i, uint64_t va)
{
    unsigned int here = (unsigned int)(PAGE_SIZE - (va & (PAGE_SIZE - 1)));

    if (here < i->available) {
        uint64_t next = i->code_bits == 64 ? va + here : (uint32_t)(va + here);

        if (copy_from_guest(&i->bytes[here], next, i->available - here))
            i->available = here;
    }
    if (copy_from_guest(i->bytes, va,
                        here < i->available ? here : i->available))
        i->available = 0;
}

bool read_code(const struct vcpu *v, const struct emu_frame *f, struct insn *i)
{
    struct descriptor d = {.is_64bit = true};

    memset(i, 0, sizeof(*i));
    if (f->cs != FLAT_RING3_CS64 &&
        (!read_descriptor(v, (uint16_t)f->cs, &d) || !d.is_segment ||
         !d.is_present || !d.is_code))
        return false;
    i->available = sizeof(i->bytes);
    if (d.is_64bit) {
        i->code_bits = 64;
        read_bytes(i, f->rip);
        return true;
    }
    i->code_bits = d.is_32bit ? 32 : 16;
    if (f->rip > d.limit)
        return false;
    if (d.limit - f->rip < i->available)
        i->available = (unsigned int)(d.limit - f->rip) + 1;
    read_bytes(i, (uint32_t)(d.base + f->rip));
    return true;
}

bool fetch(struct insn *i, uint8_t *byte)
{
    if (i->length >= i->available)
        return false;
    *byte = i->bytes[i->length++];
    return true;
}

uint64_t *gpr(struct emu_frame *f, unsigned int nr)
{
    uint64_t *const order[16] = {
        &f->rax, &f->rcx, &f->rdx, &f->rbx, &f->rsp, &f->rbp, &f->rsi, &f->rdi,
        &f->r8,  &f->r9,  &f->r10, &f->r11, &f->r12, &f->r13, &f->r14, &f->r15,
    };

    return order[nr & 15];
}

/* A segment's prefix (SDM vol 2, 2.1.1); 64-bit code knows FS and GS only. */
static bool segment_prefix(struct insn *i, uint8_t byte)
{
    static const uint8_t prefix[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

    for (int nr = SEG_ES; nr <= SEG_GS; nr++) {
        if (byte != prefix[nr])
            continue;
        if (i->code_bits != 64 || nr >= SEG_FS)
            i->segment = nr;
        return true;
    }
    return false;
}

void prefixes(struct insn *i)
{
    bool address = false;

    i->segment = -1;
    for (; i->length < i->available; i->length++) {
        uint8_t b = i->bytes[i->length];

        if (is_rex(b, i->code_bits)) {
            i->rex = b;
            continue;
        }
        if (b == 0x66)
            i->operand16 = true;
        else if (b == 0x67)
            address = true;
        else if (b == 0xf0)
            i->lock = true;
        else if (b == 0xf2)
            i->repne = true;
        else if (b == 0xf3)
            i->repe = true;
        else if (!segment_prefix(i, b))
            break;
        i->rex = 0; /* counts right before the opcode only */
    }
    i->operand16 ^= i->code_bits == 16;
    if (i->code_bits == 64)
        i->address_bytes = address ? 4 : 8;
    else
        i->address_bytes = address ^ (i->code_bits == 16) ? 2 : 4;
}

void move_on(struct emu_frame *f, const struct insn *i)
{
    f->rip += i->length;
    if (i->code_bits != 64)
        f->rip = (uint32_t)f->rip;
}

bool skip_int(const struct vcpu *v, struct emu_frame *f, uint8_t *opcode,
              uint8_t *vector)
{
    struct insn i;

    if (!read_code(v, f, &i))
        return false;
    prefixes(&i);
    if (i.lock || !fetch(&i, opcode))
        return false;
    switch (*opcode) {
    case 0xcc: /* int3 */
        *vector = X86_TRAP_BP;
        break;
    case 0xcd: /* int n */
        if (!fetch(&i, vector))
            return false;
        break;
    case 0xce: /* into */
        if (i.code_bits == 64 || !(f->rflags & RFLAGS_OF))
            return false;
        *vector = X86_TRAP_OF;
        break;
    default:
        return false;
    }
    move_on(f, &i);
    return true;
}
