/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Model-specific registers, as Xen shows them to a PV guest. */
#include "emu/privileged.h"
#include "emu/privop.h"

#define MSR_EFER 0xc0000080
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
        *value = fs_base(v);
        return true;
    case MSR_GS_BASE:
        *value = gs_base(v);
        return true;
    case MSR_KERNEL_GS_BASE:
        *value = gs_inactive(v);
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

bool emulate_msr(struct vcpu *v, struct emu_frame *f, bool write)
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
