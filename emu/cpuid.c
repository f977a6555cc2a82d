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

/* The legacy region and the header (SDM vol 1, 13.4). */
#define XSAVE_HEAD_BYTES (512 + 64)

/* XSAVE's area in its standard form with what XCR0 enables. */
static uint32_t xsave_bytes(uint64_t xcr0)
{
    uint32_t bytes = XSAVE_HEAD_BYTES;

    for (uint32_t i = 2; i < 63; i++) {
        uint32_t out[4];

        if (!(xcr0 >> i & 1))
            continue;
        cpuid_lookup(0xd, i, out);
        if (out[0] + out[1] > bytes)
            bytes = out[0] + out[1];
    }
    return bytes;
}

/*
 * How large an area has to be. Where ring 3 has the host's XCR0 whatever the
 * guest sets, XSAVE with a mask of ones writes more than was enabled, and
 * Linux before 5.8 does that: it needs the room, which is in ecx. Since then
 * the mask is what was enabled, and any other size has Linux give up XSAVE.
 * That one is known by looking at subleaf 1, for supervisor components,
 * between subleaf 0 and XSETBV.
 */
static void xsave_leaf(struct vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    v->xsave_subleaf = subleaf;
    if (subleaf || !out[0])
        return;
    if (slow_ring0() && !v->is_xsave_mask_own)
        out[1] = out[2];
    else
        out[1] = xsave_bytes(v->xcr0);
}

#define XEN_LEAVES 0x40000000
#define INVARIANT_TSC 0x100 /* leaf 0x80000007, edx */

/* Xen's time leaf: no TSC is emulated, and none has been moved. */
static void time_leaf(uint32_t subleaf, uint32_t out[4])
{
    switch (subleaf) {
    case 0: /* features, tsc_mode, kHz, incarnation */
        cpuid_lookup(0x80000007, 0, out);
        out[0] = out[3] & INVARIANT_TSC ? 2 : 0; /* safe for all vCPUs */
        out[2] = (uint32_t)shared->tsc_khz;
        out[1] = out[3] = 0;
        break;
    case 1: /* offset, scale to nanoseconds */
        out[2] = READ_ONCE(shared->clock.tsc_to_system_mul);
        out[3] = (uint32_t)READ_ONCE(shared->clock.tsc_shift);
        break;
    case 2:
        out[0] = (uint32_t)shared->tsc_khz;
        break;
    }
}

/* How many bits a machine address has. */
static uint32_t address_bits(void)
{
    return 64 - (uint32_t)__builtin_clzl((shared->machine_nr_pages << 12) - 1);
}

bool cpuid_is_amd(void)
{
    uint32_t out[4];

    cpuid_lookup(0, 0, out);
    return out[1] == 0x68747541 || out[1] == 0x6f677948; /* "Auth", "Hygo" */
}

void cpuid(struct vcpu *v, struct emu_frame *f)
{
    uint32_t out[4], leaf = (uint32_t)f->rax;

    cpuid_lookup(leaf, (uint32_t)f->rcx, out);
    if (leaf == 1) {
        out[1] = (out[1] & 0xffffff) | v->pub.id << 25;
        out[2] = (out[2] & ~(1U << 27)) | (shows_osxsave(v) ? 1U << 27 : 0);
    } else if (leaf == 0xd) {
        xsave_leaf(v, (uint32_t)f->rcx, out);
    } else if (leaf == XEN_LEAVES + 3) {
        time_leaf((uint32_t)f->rcx, out);
    } else if (leaf == XEN_LEAVES + 5 && !(uint32_t)f->rcx) {
        out[1] = address_bits();
    }
    f->rax = out[0];
    f->rbx = out[1];
    f->rcx = out[2];
    f->rdx = out[3];
    v->pub.counters.privop[EMU_PRIVOP_CPUID]++;
    trace(v, EMU_TRACE_PRIVOP, EMU_PRIVOP_CPUID, f->rip, leaf, out[0]);
}
