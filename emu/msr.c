/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model-specific registers, as Xen 4.17 shows them to a PV domain without a
 * device (its msr.c, pv/emul-priv-op.c, vmce.c). docs/msr-cpuid.md has the
 * list; what is in none of the switches is #GP, reading and writing.
 */
#include "emu/privileged.h"
#include "emu/privop.h"

/* SDM vol 4, APM vol 2 appendix A. */
#define MSR_P5_MC_ADDR 0x0
#define MSR_P5_MC_TYPE 0x1
#define MSR_TSC 0x10
#define MSR_PLATFORM_ID 0x17
#define MSR_APIC_BASE 0x1b
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_UCODE_REV 0x8b
#define MSR_PERFCTR(n) (0xc1 + (n))
#define MSR_PLATFORM_INFO 0xce
#define MSR_MPERF 0xe7
#define MSR_APERF 0xe8
#define MSR_MISC_FEATURES 0x140
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_MCG_CTL 0x17b
#define MSR_EVNTSEL(n) (0x186 + (n))
#define MSR_PERF_STATUS 0x198
#define MSR_PERF_CTL 0x199
#define MSR_THERM_CONTROL 0x19a
#define MSR_THERM_STATUS 0x19c
#define MSR_MISC_ENABLE 0x1a0
#define MSR_ENERGY_PERF_BIAS 0x1b0
#define MSR_DEBUGCTL 0x1d9
#define MSR_PAT 0x277
#define MSR_MC_CTL2(n) (0x280 + (n))
#define MSR_FIXED_CTR(n) (0x309 + (n))
#define MSR_PERF_CAPABILITIES 0x345
#define MSR_FIXED_CTR_CTRL 0x38d
#define MSR_GLOBAL_OVF_CTRL 0x390
#define MSR_MC_CTL(n) (0x400 + 4 * (n))
#define MSR_MC_MISC(n) (0x403 + 4 * (n))
#define MSR_XEN 0x40000000
#define MSR_EFER 0xc0000080
#define MSR_K7_EVNTSEL0 0xc0010000
#define MSR_K7_PERFCTR3 0xc0010007
#define MSR_HWCR 0xc0010015
#define MSR_NB_CFG 0xc001001f
#define MSR_FID_VID_CTL 0xc0010041
#define MSR_FID_VID_STATUS 0xc0010042
#define MSR_MMIO_CONF_BASE 0xc0010058
#define MSR_PSTATE_LIMIT 0xc0010061
#define MSR_PSTATE7 0xc001006b
#define MSR_FAM15H_EVNTSEL0 0xc0010200
#define MSR_FAM15H_PERFCTR5 0xc001020b
#define MSR_DE_CFG 0xc0011029

#define EFER 0xd01               /* SCE, LME, LMA, NXE */
#define PAT 0x050100070406       /* Xen's, with which guests must live: xen.h */
#define FEATURE_CONTROL_LOCKED 1 /* and nothing enabled */
#define DE_CFG_LFENCE 2          /* LFENCE waits for what is before it */
/* The TSC counts at P0's rate. Xen has 0 here, of which Linux says that the
 * firmware is at fault; it counts so on every processor that emu meets. */
#define HWCR_TSC_FREQ_SEL 0x1000000

/*
 * Fast strings; no BTS, no PEBS, no xTPR messages (guest_misc_enable() of Xen's
 * emul-priv-op.c). Linux takes ERMS away from a processor without the first,
 * but leaves FSRM, and then its memmove() runs past the end.
 */
#define MISC_ENABLE (1U << 0 | 1U << 11 | 1U << 12 | 1U << 23)

/* Machine check banks: two that never report (GUEST_MC_BANK_NUM). Intel's also
 * have recovery, their state, and an interrupt that never comes. */
#define MC_BANKS 2
#define MCG_CAP_INTEL (1UL << 24 | 1UL << 11 | 1UL << 10)

enum vendor { OTHER, INTEL, AMD, HYGON };

static enum vendor vendor(void)
{
    uint32_t out[4];

    cpuid_lookup(0, 0, out);
    return out[1] == 0x756e6547   ? INTEL /* "Genu" */
           : out[1] == 0x68747541 ? AMD   /* "Auth" */
           : out[1] == 0x6f677948 ? HYGON /* "Hygo" */
                                  : OTHER;
}

/* What AMD's and Hygon's have. */
static bool amd_like(void)
{
    enum vendor has = vendor();

    return has == AMD || has == HYGON;
}

/* --- machine checks (vmce.c): always told to be there, never any ---------- */

static bool is_mce(uint32_t msr)
{
    return msr == MSR_P5_MC_ADDR || msr == MSR_P5_MC_TYPE ||
           (msr >= MSR_MCG_CAP && msr <= MSR_MCG_CTL) ||
           (msr >= MSR_MC_CTL2(0) && msr <= MSR_MC_CTL2(31)) ||
           (msr >= MSR_MC_CTL(0) && msr <= MSR_MC_MISC(31));
}

/* CTL2 keeps what was written, for banks that exist, on Intel's. */
static bool has_ctl2(uint32_t msr)
{
    return msr >= MSR_MC_CTL2(0) && msr < MSR_MC_CTL2(MC_BANKS) &&
           vendor() == INTEL;
}

static uint64_t read_mce(const struct vcpu *v, uint32_t msr)
{
    if (msr == MSR_MCG_CAP)
        return MC_BANKS | (vendor() == INTEL ? MCG_CAP_INTEL : 0);
    if (msr == MSR_MCG_STATUS)
        return v->mcg_status;
    if (has_ctl2(msr))
        return v->mc_ctl2[msr - MSR_MC_CTL2(0)];
    if (msr >= MSR_MC_CTL(0) && msr < MSR_MC_CTL(MC_BANKS) && !(msr & 3))
        return ~0UL;
    return 0;
}

/* What a bank has seen can be cleared and not be made up. */
static bool write_mce(struct vcpu *v, uint32_t msr, uint64_t value)
{
    if (msr == MSR_P5_MC_ADDR || msr == MSR_P5_MC_TYPE)
        return false;
    if (msr == MSR_MCG_STATUS)
        v->mcg_status = value;
    else if (has_ctl2(msr))
        v->mc_ctl2[msr - MSR_MC_CTL2(0)] = value;
    else if (msr >= MSR_MC_CTL(0) && msr < MSR_MC_CTL(MC_BANKS) && msr & 3)
        return value == 0;
    return true;
}

/* --- counters (vpmu.c, off): read as zero, writes are lost ---------------- */

static bool is_counter(uint32_t msr)
{
    if ((msr >= MSR_PERFCTR(0) && msr <= MSR_PERFCTR(7)) ||
        (msr >= MSR_EVNTSEL(0) && msr <= MSR_EVNTSEL(3)) ||
        (msr >= MSR_FIXED_CTR(0) && msr <= MSR_FIXED_CTR(2)) ||
        (msr >= MSR_FIXED_CTR_CTRL && msr <= MSR_GLOBAL_OVF_CTRL))
        return vendor() == INTEL;
    if ((msr >= MSR_K7_EVNTSEL0 && msr <= MSR_K7_PERFCTR3) ||
        (msr >= MSR_FAM15H_EVNTSEL0 && msr <= MSR_FAM15H_PERFCTR5))
        return amd_like();
    return false;
}

/* --- one vendor's --------------------------------------------------------- */

static bool read_intel(uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case MSR_PLATFORM_ID: /* which of a family's packages: the first */
    case MSR_PERF_STATUS:
    case MSR_PERF_CTL:
    case MSR_THERM_STATUS:
        *value = 0;
        break;
    case MSR_FEATURE_CONTROL:
        *value = FEATURE_CONTROL_LOCKED;
        break;
    case MSR_MISC_ENABLE:
        *value = MISC_ENABLE;
        break;
    default:
        return false;
    }
    return vendor() == INTEL;
}

static bool write_intel(uint32_t msr, uint64_t value)
{
    switch (msr) {
    case MSR_UCODE_REV: /* as the manual has it, before it is read */
        return vendor() == INTEL && value == 0;
    case MSR_PERF_CTL:
    case MSR_THERM_CONTROL:
    case MSR_MISC_ENABLE: /* lost, whatever it is */
    case MSR_ENERGY_PERF_BIAS:
        return vendor() == INTEL;
    default:
        return false;
    }
}

static bool is_pstate(uint32_t msr)
{
    return msr == MSR_FID_VID_CTL || msr == MSR_FID_VID_STATUS ||
           (msr >= MSR_PSTATE_LIMIT && msr <= MSR_PSTATE7);
}

/* Of the families in between alone (APM vol 3, Fn0000_0001_EAX). */
static bool has_mmio_conf(uint32_t msr)
{
    uint32_t out[4], family;

    if (msr != MSR_MMIO_CONF_BASE || vendor() != AMD)
        return false;
    cpuid_lookup(1, 0, out);
    family = (out[0] >> 8 & 15) + (out[0] >> 20 & 255);
    return family >= 0x10 && family < 0x17;
}

static bool read_amd(uint32_t msr, uint64_t *value)
{
    if (msr == MSR_DE_CFG) {
        *value = DE_CFG_LFENCE;
        return amd_like();
    }
    if (msr == MSR_HWCR) {
        *value = HWCR_TSC_FREQ_SEL;
        return amd_like();
    }
    *value = 0;
    return has_mmio_conf(msr) || (is_pstate(msr) && vendor() == AMD);
}

static bool write_amd(uint32_t msr)
{
    if (msr == MSR_DE_CFG || msr == MSR_HWCR || is_pstate(msr))
        return amd_like();
    return has_mmio_conf(msr);
}

/* --- all ------------------------------------------------------------------ */

static bool read_common(struct vcpu *v, uint32_t msr, uint64_t *value)
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
        *value = EFER;
        return true;
    case MSR_PAT:
        *value = PAT;
        return true;
    case MSR_TSC:
        *value = rdtsc();
        return true;
    case MSR_APIC_BASE:
        *value = 0xfee00000 | 1U << 11 | (v->pub.id == 0 ? 1U << 8 : 0);
        return true;
    case MSR_UCODE_REV: /* what the host has loaded is not ours to know */
        *value = 0;
        return vendor() != OTHER;
    case MSR_DEBUGCTL: /* Xen has none; Linux reads it without looking */
    case MSR_MISC_FEATURES:
    case MSR_NB_CFG:
    case MSR_PERF_CAPABILITIES:
    case MSR_PLATFORM_INFO: /* no faults of CPUID to be had */
    case MSR_XEN:
        *value = 0;
        return true;
    default:
        return false;
    }
}

static bool read_msr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    if (is_mce(msr)) {
        *value = read_mce(v, msr);
        return true;
    }
    if (is_counter(msr)) {
        *value = 0;
        return true;
    }
    if (read_common(v, msr, value) || read_intel(msr, value) ||
        read_amd(msr, value))
        return true;
    /* As Xen: a kernel that has no handler yet would not live to have one. */
    *value = 0;
    return !v->traps[X86_TRAP_GP].address && msr >> 16 != MSR_XEN >> 16;
}

/* The page that a guest calls through, as the builder fills an image's: a stub
 * of 32 bytes for each number, iret's without a way back. */
static bool write_hypercall_page(uint64_t value)
{
    static const uint8_t call[] = {0x51, 0x41, 0x53, 0xb8, 0,    0,    0,
                                   0,    0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3};
    static const uint8_t iret[] = {0x51, 0x41, 0x53, 0x50, 0xb8, 0,
                                   0,    0,    0,    0x0f, 0x05};
    uint8_t *page = machine(value);

    /* As on Xen, not a page that is in use as a table. */
    if (value & (PAGE_SIZE - 1) || !mfn_guest(value >> PAGE_SHIFT) ||
        table_level(value >> PAGE_SHIFT))
        return false;
    memset(page, 0xcc, PAGE_SIZE);
    for (uint8_t nr = 0; nr < PAGE_SIZE / 32; nr++) {
        bool is_iret = nr == __HYPERVISOR_iret;

        memcpy(page + nr * 32, is_iret ? iret : call,
               is_iret ? sizeof(iret) : sizeof(call));
        page[nr * 32 + (is_iret ? 5 : 4)] = nr;
    }
    return true;
}

static bool write_msr(struct vcpu *v, uint32_t msr, uint64_t value)
{
    if (is_mce(msr))
        return write_mce(v, msr, value);
    if (is_counter(msr))
        return true;
    switch (msr) {
    case MSR_FS_BASE:
        return do_set_segment_base(v, SEGBASE_FS, value, 0, 0, 0) == 0;
    case MSR_GS_BASE:
        return do_set_segment_base(v, SEGBASE_GS_KERNEL, value, 0, 0, 0) == 0;
    case MSR_KERNEL_GS_BASE:
        return do_set_segment_base(v, SEGBASE_GS_USER, value, 0, 0, 0) == 0;
    case MSR_EFER:
        return value == EFER;
    case MSR_DEBUGCTL:
    case MSR_MISC_FEATURES:
        return value == 0;
    case MSR_MPERF:
    case MSR_APERF:
        return vendor() != OTHER;
    case MSR_NB_CFG:
        return true;
    case MSR_XEN:
        return write_hypercall_page(value);
    default:
        return write_intel(msr, value) || write_amd(msr);
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
