/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CPUID as the guest sees it: the VM process's table, and what is a vCPU's. */
#include "emu/privop.h"

void cpuid_lookup(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
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

/*
 * OSXSAVE mirrors CR4. But a kernel sees the processor's, set all the time: so
 * Xen has it (guest_cpuid() in its cpuid.c says why), and Linux takes a clear
 * one for a Xen without XSAVE (xen_check_xsave).
 */
static bool shows_osxsave(const struct vcpu *v)
{
    return v->cr4_guest & CR4_OSXSAVE || (v->pub.in_kernel && shared->xcr0);
}

void cpuid(struct vcpu *v, struct emu_frame *f)
{
    uint32_t out[4], leaf = (uint32_t)f->rax;

    cpuid_lookup(leaf, (uint32_t)f->rcx, out);
    if (leaf == 1) {
        out[1] = (out[1] & 0xffffff) | v->pub.id << 25;
        out[2] = (out[2] & ~(1U << 27)) | (shows_osxsave(v) ? 1U << 27 : 0);
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
