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
        if (use_root(value >> PAGE_SHIFT))
            return false;
        set_kernel_root(v, value & ~(PAGE_SIZE - 1));
        flush_local(v); /* also where it is the root already */
        return true;
    case 4:
        set_guest_cr4(v, value);
        return true;
    default:
        return false;
    }
}

bool write_xcr0(uint64_t value)
{
    if (!(value & 1) || value & ~shared->xcr0 || (value & 6) == 4)
        return false;
    xsetbv(value);
    return true;
}
