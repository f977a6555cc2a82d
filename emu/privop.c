/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Privileged instructions at ring 3, emulated as Xen does for PV guests
 * (xen/arch/x86/pv/emul-priv-op.c gives the behaviour), and the forced
 * emulation prefix by which a guest asks for Xen's CPUID.
 */
#include "emu/privop.h"

bool fetch(struct insn *i, uint8_t *byte)
{
    if (i->length >= i->available)
        return false;
    *byte = i->bytes[i->length++];
    return true;
}

/* Up to 15 bytes at rip; fewer where the next page is not there. */
void read_insn(struct insn *i, uint64_t rip)
{
    unsigned int here = (unsigned int)(PAGE_SIZE - (rip & (PAGE_SIZE - 1)));

    memset(i, 0, sizeof(*i));
    i->available = sizeof(i->bytes);
    if (here < i->available &&
        copy_from_guest(&i->bytes[here], rip + here, i->available - here))
        i->available = here;
    if (copy_from_guest(i->bytes, rip,
                        here < i->available ? here : i->available))
        i->available = 0;
}

static uint64_t *gpr(struct emu_frame *f, unsigned int nr)
{
    uint64_t *const order[16] = {
        &f->rax, &f->rcx, &f->rdx, &f->rbx, &f->rsp, &f->rbp, &f->rsi, &f->rdi,
        &f->r8,  &f->r9,  &f->r10, &f->r11, &f->r12, &f->r13, &f->r14, &f->r15,
    };

    return order[nr & 15];
}

/* ud2; "xen"; cpuid. */
bool emulate_forced(struct vcpu *v, struct emu_frame *f)
{
    static const uint8_t forced[] = {0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2};
    struct insn i;

    read_insn(&i, f->rip);
    if (i.available < sizeof(forced) || memcmp(i.bytes, forced, sizeof(forced)))
        return false;
    cpuid(v, f);
    f->rip += sizeof(forced);
    return true;
}

static void prefixes(struct insn *i)
{
    for (; i->length < i->available; i->length++) {
        uint8_t b = i->bytes[i->length];

        if (b == 0x66)
            i->operand16 = true;
        else if (b == 0xf2 || b == 0xf3)
            i->rep = true;
        else if ((b & 0xf0) == 0x40)
            i->rex = b;
        else if (b != 0x2e && b != 0x36 && b != 0x3e && b != 0x26 &&
                 b != 0x64 && b != 0x65 && b != 0x67)
            return;
    }
}

static bool mov_cr_dr(struct vcpu *v, struct emu_frame *f, struct insn *i,
                      uint8_t op)
{
    uint8_t modrm;
    unsigned int nr;
    uint64_t *reg;

    if (!fetch(i, &modrm))
        return false;
    nr = (modrm >> 3 & 7) | (i->rex & 4) << 1;
    reg = gpr(f, (modrm & 7U) | (i->rex & 1U) << 3);
    v->pub.counters.privop[op & 1   ? EMU_PRIVOP_DR
                           : op & 2 ? EMU_PRIVOP_CR_WRITE
                                    : EMU_PRIVOP_CR_READ]++;
    trace(v, EMU_TRACE_PRIVOP,
          op & 1   ? EMU_PRIVOP_DR
          : op & 2 ? EMU_PRIVOP_CR_WRITE
                   : EMU_PRIVOP_CR_READ,
          f->rip, nr, *reg);
    switch (op) {
    case 0x20:
        return read_cr(v, nr, reg);
    case 0x22:
        return write_cr(v, nr, *reg);
    case 0x21:
        *reg = (uint64_t)do_get_debugreg(v, nr, 0, 0, 0, 0);
        return nr < 8;
    default:
        return do_set_debugreg(v, nr, *reg, 0, 0, 0) == 0;
    }
}

/* 0f 01: xsetbv, and invlpg through any address form (length by its modrm). */
static bool group7(struct vcpu *v, struct emu_frame *f, struct insn *i)
{
    uint8_t modrm, sib = 0;
    uint64_t addr;

    if (!fetch(i, &modrm))
        return false;
    if (modrm == 0xd1)
        return (uint32_t)f->rcx == 0 &&
               write_xcr0((uint32_t)f->rax | f->rdx << 32);
    if ((modrm & 0x38) != 0x38 || modrm >> 6 == 3)
        return false;
    if ((modrm & 7) == 4 && !fetch(i, &sib))
        return false;
    addr = *gpr(f, (modrm & 7U) | (i->rex & 1U) << 3);
    if (modrm >> 6 != 0 || (modrm & 7) == 4 || (modrm & 7) == 5) {
        /* Address not needed: more translations may go than were asked. */
        i->length += modrm >> 6 == 1                      ? 1
                     : modrm >> 6 == 2                    ? 4
                     : (modrm & 7) == 5 || (sib & 7) == 5 ? 4
                                                          : 0;
        flush_local(v);
    } else {
        flush_local_va(v, addr);
    }
    return true;
}

static bool two_byte(struct vcpu *v, struct emu_frame *f, struct insn *i)
{
    uint8_t op;

    if (!fetch(i, &op) || !v->pub.in_kernel)
        return false;
    switch (op) {
    case 0x01:
        v->pub.counters.privop[EMU_PRIVOP_OTHER]++;
        return group7(v, f, i);
    case 0x06: /* clts */
        v->pub.counters.privop[EMU_PRIVOP_OTHER]++;
        do_fpu_taskswitch(v, 0, 0, 0, 0, 0);
        return true;
    case 0x08: /* invd, wbinvd: no device reads past the caches */
    case 0x09:
        v->pub.counters.privop[EMU_PRIVOP_OTHER]++;
        return true;
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23:
        return mov_cr_dr(v, f, i, op);
    case 0x30:
        return emulate_msr(v, f, true);
    case 0x32:
        return emulate_msr(v, f, false);
    case 0xa2:
        cpuid(v, f);
        return true;
    default:
        return false;
    }
}

static bool one_byte(struct vcpu *v, struct emu_frame *f, struct insn *i,
                     uint8_t op)
{
    unsigned int bytes = !(op & 1) ? 1 : i->operand16 ? 2 : 4;
    uint8_t port;

    switch (op) {
    case 0xe4:
    case 0xe5:
    case 0xe6:
    case 0xe7:
        return fetch(i, &port) && io(v, f, bytes, !(op & 2), port);
    case 0xec:
    case 0xed:
    case 0xee:
    case 0xef:
        return io(v, f, bytes, !(op & 2), (uint16_t)f->rdx);
    case 0xf4: /* hlt */
        if (!v->pub.in_kernel)
            return false;
        v->pub.counters.privop[EMU_PRIVOP_OTHER]++;
        f->rip += i->length;
        i->length = 0;
        do_sched_op(v, SCHEDOP_block, 0, 0, 0, 0);
        return true;
    case 0xfa: /* cli, sti: allowed with IOPL, without effect, as on Xen */
    case 0xfb:
        v->pub.counters.privop[EMU_PRIVOP_OTHER]++;
        trace(v, EMU_TRACE_PRIVOP, EMU_PRIVOP_OTHER, f->rip, op, 0);
        return v->iopl >= (v->pub.in_kernel ? 1U : 3U);
    default:
        return false;
    }
}

/* True: done, rip moved on. False: the guest gets its #GP. */
bool emulate_privileged(struct vcpu *v, struct emu_frame *f)
{
    struct insn i;
    uint8_t op;

    read_insn(&i, f->rip);
    prefixes(&i);
    if (!fetch(&i, &op))
        return false;
    if (op == 0x0f ? !two_byte(v, f, &i) : !one_byte(v, f, &i, op))
        return false;
    f->rip += i.length;
    return true;
}
