/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Privileged instructions at ring 3, emulated as Xen does for PV guests
 * (xen/arch/x86/pv/emul-priv-op.c gives the behaviour), and the forced
 * emulation prefix by which a guest asks for Xen's CPUID.
 */
#include "emu/emu.h"
#include "emu/privileged.h"

#define MSR_EFER 0xc0000080
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_APIC_BASE 0x1b
#define MSR_UCODE_REV 0x8b
#define MSR_MISC_ENABLE 0x1a0
#define MSR_PAT 0x277
#define MSR_TSC 0x10
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_MCG_CTL 0x17b
#define MSR_K7_HWCR 0xc0010015
#define HWCR_TSC_FREQ_SEL 0x1000000 /* TSC counts at P0, as Xen says */

/*
 * Fast strings; no BTS, no PEBS, no xTPR messages (guest_misc_enable() of Xen's
 * emul-priv-op.c). Linux takes ERMS away from a processor without the first,
 * but leaves FSRM, and then its memmove() runs past the end.
 */
#define MISC_ENABLE (1U << 0 | 1U << 11 | 1U << 12 | 1U << 23)
#define VENDOR_INTEL_EBX 0x756e6547 /* "Genu" */

/* The PAT that Xen programs and PV guests must live with (xen.h). */
#define XEN_PAT 0x050100070406

struct insn {
    uint8_t bytes[15];
    unsigned int available, length;
    uint8_t rex;
    bool operand16, rep;
};

static bool fetch(struct insn *i, uint8_t *byte)
{
    if (i->length >= i->available)
        return false;
    *byte = i->bytes[i->length++];
    return true;
}

/* Up to 15 bytes at rip; fewer where the next page is not there. */
static void read_insn(struct insn *i, uint64_t rip)
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

/* --- CPUID ------------------------------------------------------------------ */

static void cpuid_lookup(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    uint32_t n =
        shared->nr_cpuid < EMU_MAX_CPUID ? shared->nr_cpuid : EMU_MAX_CPUID;

    memset(out, 0, 16);
    for (uint32_t i = 0; i < n; i++) {
        const struct emu_cpuid *c = &shared->cpuid[i];

        if (c->leaf != leaf ||
            (c->flags & EMU_CPUID_SUBLEAF && c->subleaf != subleaf))
            continue;
        memcpy(out, &c->eax, 16);
        return;
    }
}

static void cpuid(struct vcpu *v, struct emu_frame *f)
{
    uint32_t out[4], leaf = (uint32_t)f->rax;

    cpuid_lookup(leaf, (uint32_t)f->rcx, out);
    if (leaf == 1) {
        out[1] = (out[1] & 0xffffff) | v->pub.id << 25;
        out[2] &= ~(1U << 27); /* OSXSAVE mirrors CR4 */
        if (v->cr4_guest & CR4_OSXSAVE)
            out[2] |= 1U << 27;
    } else if (leaf == 0xb) {
        out[3] = v->pub.id * 2;
    }
    f->rax = out[0];
    f->rbx = out[1];
    f->rcx = out[2];
    f->rdx = out[3];
    v->pub.counters.privop[EMU_PRIVOP_CPUID]++;
    trace(v, EMU_TRACE_PRIVOP, EMU_PRIVOP_CPUID, f->rip, leaf, out[0]);
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

/* --- control and debug registers ------------------------------------------------ */

static bool read_cr(struct vcpu *v, unsigned int nr, uint64_t *value)
{
    switch (nr) {
    case 0:
        *value = (v->cr0_guest & ~CR0_TS) | (v->fpu_ts ? CR0_TS : 0);
        return true;
    case 2:
        *value = v->info->arch.cr2;
        return true;
    case 3:
        *value = v->pub.kernel_cr3;
        return true;
    case 4:
        *value = v->cr4_guest;
        return true;
    default:
        return false;
    }
}

/* Xen lets a guest change TSD, DE and, where the host has them, FSGSBASE and
 * OSXSAVE; other bits stay as they are. */
static void set_guest_cr4(struct vcpu *v, uint64_t value)
{
    uint64_t mask = CR4_TSD | CR4_DE;

    if (shared->xcr0)
        mask |= CR4_OSXSAVE;
    value = (v->cr4_guest & ~mask) | (value & mask);
    if (value != v->cr4_guest) {
        v->cr4_guest = value;
        write_cr4(value | CR4_FSGSBASE);
    }
}

static bool write_cr(struct vcpu *v, unsigned int nr, uint64_t value)
{
    switch (nr) {
    case 0:
        /* As Xen: only TS is the guest's. */
        if ((value ^ v->cr0_guest) & ~CR0_TS)
            return false;
        do_fpu_taskswitch(v, !!(value & CR0_TS), 0, 0, 0, 0);
        return true;
    case 2:
        v->info->arch.cr2 = value;
        return true;
    case 3:
        if (!mfn_guest(value >> PAGE_SHIFT))
            crash_domain("mov to cr3 of a page that is not the guest's");
        set_kernel_root(v, value & ~(PAGE_SIZE - 1));
        return true;
    case 4:
        set_guest_cr4(v, value);
        return true;
    default:
        return false;
    }
}

/* --- MSRs --------------------------------------------------------------------------- */

static bool is_intel(void)
{
    uint32_t out[4];

    cpuid_lookup(0, 0, out);
    return out[1] == VENDOR_INTEL_EBX;
}

static bool read_msr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case MSR_FS_BASE:
        *value = rdfsbase();
        return true;
    case MSR_GS_BASE:
        *value = rdgsbase();
        return true;
    case MSR_KERNEL_GS_BASE:
        *value = v->gs_user;
        return true;
    case MSR_EFER:
        *value = 0xd01; /* SCE, LME, LMA, NXE */
        return true;
    case MSR_PAT:
        *value = XEN_PAT;
        return true;
    case MSR_TSC:
        *value = rdtsc();
        return true;
    case MSR_APIC_BASE:
        *value = 0xfee00000 | 1U << 11 | (v->pub.id == 0 ? 1U << 8 : 0);
        return true;
    case MSR_MCG_CAP: /* machine check: no banks */
    case MSR_MCG_STATUS:
    case MSR_MCG_CTL:
        *value = 0;
        return true;
    case MSR_UCODE_REV:
        *value = 0; /* what the host has loaded is not ours to know */
        return is_intel();
    case MSR_MISC_ENABLE:
        *value = MISC_ENABLE;
        return is_intel();
    case MSR_K7_HWCR:
        *value = HWCR_TSC_FREQ_SEL;
        return true;
    default:
        return false;
    }
}

static bool write_msr(struct vcpu *v, uint32_t msr, uint64_t value)
{
    switch (msr) {
    case MSR_FS_BASE:
        return do_set_segment_base(v, SEGBASE_FS, value, 0, 0, 0) == 0;
    case MSR_GS_BASE:
        return do_set_segment_base(v, SEGBASE_GS_KERNEL, value, 0, 0, 0) == 0;
    case MSR_KERNEL_GS_BASE:
        return do_set_segment_base(v, SEGBASE_GS_USER, value, 0, 0, 0) == 0;
    case MSR_PAT:
        return value == XEN_PAT;
    case MSR_EFER:
        return value == 0xd01;
    case MSR_UCODE_REV: /* as the manual has it, before it is read */
        return is_intel() && value == 0;
    case MSR_MISC_ENABLE:
        return is_intel() && value == MISC_ENABLE;
    case MSR_MCG_STATUS:
    case MSR_MCG_CTL:
        return true; /* nothing to clear, nothing to enable */
    default:
        return false;
    }
}

static bool msr(struct vcpu *v, struct emu_frame *f, bool write)
{
    uint32_t nr = (uint32_t)f->rcx;
    uint64_t value = (uint32_t)f->rax | f->rdx << 32;

    v->pub.counters
        .privop[write ? EMU_PRIVOP_MSR_WRITE : EMU_PRIVOP_MSR_READ]++;
    trace(v, EMU_TRACE_PRIVOP,
          write ? EMU_PRIVOP_MSR_WRITE : EMU_PRIVOP_MSR_READ, f->rip, nr,
          value);
    if (write)
        return write_msr(v, nr, value);
    if (!read_msr(v, nr, &value))
        return false;
    f->rax = (uint32_t)value;
    f->rdx = value >> 32;
    return true;
}

/*
 * --- I/O ports: there are none; reads float high, as on a bare bus. Only the
 * PIT's read as zero: a kernel that tries to calibrate with it sees at once
 * that it does not count, instead of after 50,000 reads.
 */
static uint32_t port_value(uint16_t port)
{
    return (port >= 0x40 && port <= 0x43) || port == 0x61 ? 0 : 0xffffffff;
}

static bool io(struct vcpu *v, struct emu_frame *f, unsigned int bytes, bool in,
               uint16_t port)
{
    if (v->iopl < (v->pub.in_kernel ? 1U : 3U))
        return false;
    v->pub.counters.privop[EMU_PRIVOP_IO]++;
    trace(v, EMU_TRACE_PRIVOP, EMU_PRIVOP_IO, f->rip, port, in);
    if (in) {
        uint64_t mask = bytes == 4 ? ~0UL : (1UL << bytes * 8) - 1;

        f->rax = (f->rax & ~mask) | (port_value(port) & (uint32_t)mask);
    }
    return true;
}

/* --- the decoder: only what traps at ring 3 and Xen emulates ---------------------------- */

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
    if (modrm == 0xd1) {
        uint64_t value = (uint32_t)f->rax | f->rdx << 32;

        if ((uint32_t)f->rcx != 0 || !(value & 1) || value & ~shared->xcr0 ||
            (value & 6) == 4)
            return false;
        xsetbv(value);
        return true;
    }
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
        return msr(v, f, true);
    case 0x32:
        return msr(v, f, false);
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
