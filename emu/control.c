/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control registers that a guest's kernel reads and writes. */
#include "emu/privileged.h"
#include "emu/privop.h"

bool read_cr(struct vcpu *v, unsigned int nr, uint64_t *value)
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

int64_t do_fpu_taskswitch(struct vcpu *v, guest_word set, guest_word a2,
                          guest_word a3, guest_word a4, guest_word a5)
{
    if (!!set == v->fpu_ts)
        return 0;
    v->fpu_ts = !!set;
    write_cr0((v->cr0_guest & ~CR0_TS) | (set ? CR0_TS : 0));
    return 0;
}

static bool has_fsgsbase_feature(void)
{
    uint32_t out[4];

    cpuid_lookup(7, 0, out);
    return out[1] & CPUID_7_EBX_FSGSBASE;
}

/* Xen lets a guest change TSD, DE and, where its CPUID has them, FSGSBASE and
 * OSXSAVE; other bits stay as they are (pv_fixup_guest_cr4). */
uint64_t guest_cr4(const struct vcpu *v, uint64_t value)
{
    const uint64_t all = CR4_TSD | CR4_DE | CR4_FSGSBASE | CR4_OSXSAVE;
    uint64_t mask = CR4_TSD | CR4_DE;

    if (has_fsgsbase_feature())
        mask |= CR4_FSGSBASE;
    if (shared->xcr0)
        mask |= CR4_OSXSAVE;
    return (v->cr4_guest & ~all) | (value & mask);
}

/*
 * OSXSAVE is set whatever the guest wants (pv_make_cr4): emu's xsetbv needs it.
 * FSGSBASE is the guest's: emu goes by MSRs while it is clear. Where emu's C is
 * at ring 3, what it uses there is not the guest's to take away.
 */
void load_cr4(const struct vcpu *v)
{
    uint64_t cr4 = v->cr4_guest;

    if (shared->xcr0)
        cr4 |= CR4_OSXSAVE;
    if (slow_ring0())
        cr4 = (cr4 & ~(uint64_t)CR4_TSD) | CR4_FSGSBASE;
    write_cr4(cr4);
}

bool write_cr(struct vcpu *v, unsigned int nr, uint64_t value)
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
        if (set_kernel_root(v, value >> PAGE_SHIFT))
            return false;
        flush_local(v); /* also where it is the root already */
        return true;
    case 4:
        value = guest_cr4(v, value);
        if (value != v->cr4_guest) {
            v->cr4_guest = value;
            load_cr4(v);
        }
        return true;
    default:
        return false;
    }
}

/* What the processor takes (SDM vol 1, 13.3; valid_xcr0() of Xen's xstate.c):
 * x87 always, AVX with SSE, the three of AVX-512 together and with AVX. */
static bool is_valid_xcr0(uint64_t value)
{
    if (!(value & XCR0_X87) || value & ~shared->xcr0)
        return false;
    if (value & XCR0_AVX && !(value & XCR0_SSE))
        return false;
    return !(value & XCR0_AVX512) ||
           ((value & XCR0_AVX512) == XCR0_AVX512 && value & XCR0_AVX);
}

bool write_xcr0(struct vcpu *v, uint64_t value)
{
    if (!is_valid_xcr0(value) || !xsetbv(value))
        return false;
    v->xcr0 = value;
    v->is_xsave_mask_own |= v->xsave_subleaf == 1; /* cpuid.c */
    return true;
}
