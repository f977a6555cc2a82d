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

void cpuid(struct vcpu *v, struct emu_frame *f)
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
