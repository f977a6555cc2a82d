/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Privileged instructions at ring 3, emulated as Xen does for PV guests
 * (xen/arch/x86/pv/emul-priv-op.c gives the behaviour), and the forced
 * emulation prefix by which a guest asks for Xen's CPUID.
 */
#include "emu/privileged.h"
#include "emu/privop.h"

/* An instruction has been emulated, or a step of a repeated one: what the
 * processor would do at its end. */
static void retired(struct vcpu *v, struct emu_frame *f)
{
    uint32_t why = v->db_wanted | (f->rflags & RFLAGS_TF ? DR6_BS : 0);

    f->rflags &= ~(uint64_t)RFLAGS_RF;
    if (!why)
        return;
    v->db_wanted = 0;
    v->dr[6] |= why;
    inject_trap(v, f, X86_TRAP_DB, 0);
}

/* ud2; "xen"; cpuid. */
bool emulate_forced(struct vcpu *v, struct emu_frame *f)
{
    static const uint8_t forced[] = {0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2};
    struct insn i;

    if (!read_code(v, f, &i) || i.available < sizeof(forced) ||
        memcmp(i.bytes, forced, sizeof(forced)))
        return false;
    cpuid(v, f);
    i.length = sizeof(forced);
    move_on(f, &i);
    retired(v, f);
    return true;
}

/* A bad number is #UD, a bad value #GP. */
static bool debugreg_done(struct insn *i, int64_t rc)
{
    i->undefined = rc == -XEN_ENODEV;
    return rc == 0;
}

static bool mov_cr_dr(struct vcpu *v, struct emu_frame *f, struct insn *i,
                      uint8_t op)
{
    uint8_t modrm;
    unsigned int nr;
    uint64_t *reg;

    if (!fetch(i, &modrm))
        return false;
    nr = (modrm >> 3 & 7) | rex_reg(i->rex);
    reg = gpr(f, (modrm & 7U) | rex_base(i->rex));
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
        return debugreg_done(i, read_debugreg(v, nr, reg));
    default:
        return debugreg_done(i, write_debugreg(v, nr, *reg));
    }
}

/* Only with CR4.TSD: without, no rdtsc traps. The kernel may always. */
static bool read_tsc(struct emu_frame *f)
{
    uint64_t tsc = rdtsc();

    f->rax = (uint32_t)tsc;
    f->rdx = tsc >> 32;
    return true;
}

/* TSC_AUX is no guest's, so that it is 0. */
static bool read_tscp(struct emu_frame *f)
{
    uint32_t out[4];

    cpuid_lookup(0x80000001, 0, out);
    if (!(out[3] & CPUID_80000001_EDX_RDTSCP))
        return false;
    f->rcx = 0;
    return read_tsc(f);
}

static bool set_xcr0(struct vcpu *v, const struct emu_frame *f, struct insn *i)
{
    i->undefined = !(v->cr4_guest & CR4_OSXSAVE);
    return !i->undefined && (uint32_t)f->rcx == 0 &&
           write_xcr0(v, (uint32_t)f->rax | f->rdx << 32);
}

/* 0f 01. Xen refuses invlpg, lmsw and the rest. */
static bool group7(struct vcpu *v, struct emu_frame *f, struct insn *i)
{
    uint8_t modrm;

    if (!fetch(i, &modrm))
        return false;
    if (modrm == 0xd1)
        return set_xcr0(v, f, i);
    return modrm == 0xf9 && read_tscp(f);
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
    case 0x09: /* wbinvd, wbnoinvd: no device reads past the caches */
        v->pub.counters.privop[EMU_PRIVOP_OTHER]++;
        return true;
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23:
        return i->code_bits == 64 && mov_cr_dr(v, f, i, op);
    case 0x30:
        return emulate_msr(v, f, true);
    case 0x31:
        v->pub.counters.privop[EMU_PRIVOP_OTHER]++;
        return read_tsc(f);
    case 0x32:
        return emulate_msr(v, f, false);
    case 0xa2:
        cpuid(v, f);
        return true;
    default:
        return false;
    }
}

static enum emulated one_byte(struct vcpu *v, struct emu_frame *f,
                              struct insn *i, uint8_t op)
{
    unsigned int bytes = !(op & 1) ? 1 : i->operand16 ? 2 : 4;
    bool in = !(op & 2);
    uint8_t port;

    switch (op) {
    case 0x6c:
    case 0x6d:
    case 0x6e:
    case 0x6f:
        return string_io(v, f, i, bytes, in);
    case 0xe4:
    case 0xe5:
    case 0xe6:
    case 0xe7:
        return fetch(i, &port) ? port_io(v, f, bytes, in, port) : REFUSED;
    case 0xec:
    case 0xed:
    case 0xee:
    case 0xef:
        return port_io(v, f, bytes, in, (uint16_t)f->rdx);
    case 0xfa: /* cli, sti: allowed with IOPL, without effect, as on Xen */
    case 0xfb:
        v->pub.counters.privop[EMU_PRIVOP_OTHER]++;
        trace(v, EMU_TRACE_PRIVOP, EMU_PRIVOP_OTHER, f->rip, op, 0);
        return iopl_ok(v) ? EMULATED : REFUSED;
    default:
        return REFUSED;
    }
}

/* True: done. False: the guest gets its #GP. */
bool emulate_privileged(struct vcpu *v, struct emu_frame *f)
{
    enum emulated result = REFUSED;
    struct insn i;
    uint8_t op;

    if (!read_code(v, f, &i))
        return false;
    prefixes(&i);
    if (!i.lock && fetch(&i, &op)) {
        if (op != 0x0f)
            result = one_byte(v, f, &i, op);
        else if (two_byte(v, f, &i))
            result = EMULATED;
    }
    if (result == REFUSED && i.undefined) {
        inject_trap(v, f, X86_TRAP_UD, 0);
        result = RAISED;
    }
    if (result == EMULATED)
        move_on(f, &i);
    if (result == EMULATED || result == TO_BE_GONE_ON)
        retired(v, f);
    return result != REFUSED;
}
