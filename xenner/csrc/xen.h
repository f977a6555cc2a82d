/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What Python uses of Xen's public headers. cffi reads the names here;
 * numbers, sizes and offsets are those of the headers.
 */
#ifndef XENNER_XEN_H
#define XENNER_XEN_H

#ifndef ABI_NO_INCLUDES
#include <stdint.h>
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/foreign/x86_32.h>
#include <xen/foreign/x86_64.h>
#else

/* --- what differs between guests of 32 and of 64 bits --------------------- */

#define GUEST_STRUCTURES(width, word)                       \
    struct start_info_##width {                             \
        char magic[32];                                     \
        word nr_pages, shared_info;                         \
        uint32_t flags;                                     \
        word store_mfn;                                     \
        uint32_t store_evtchn;                              \
        union {                                             \
            struct {                                        \
                word mfn;                                   \
                uint32_t evtchn;                            \
            } domU;                                         \
            struct {                                        \
                uint32_t info_off, info_size;               \
            } dom0;                                         \
        } console;                                          \
        word pt_base, nr_pt_frames, mfn_list;               \
        word mod_start, mod_len;                            \
        int8_t cmd_line[1024];                              \
        word first_p2m_pfn, nr_p2m_frames;                  \
    };                                                      \
    struct vcpu_info_##width {                              \
        uint8_t evtchn_upcall_pending, evtchn_upcall_mask;  \
        word evtchn_pending_sel;                            \
        ...;                                                \
    };                                                      \
    struct cpu_user_regs_##width {                          \
        word eax, ebx, ecx, edx, esi, edi, ebp;             \
        word eip, eflags, esp;                              \
        uint16_t cs, ds, es, fs, gs, ss;                    \
        ...;                                                \
    };                                                      \
    struct trap_info_##width {                              \
        uint8_t vector, flags;                              \
        uint16_t cs;                                        \
        word address;                                       \
        ...;                                                \
    };                                                      \
    struct vcpu_guest_context_##width {                     \
        word flags;                                         \
        struct cpu_user_regs_##width user_regs;             \
        struct trap_info_##width trap_ctxt[256];            \
        word ldt_base, ldt_ents, gdt_frames[16], gdt_ents;  \
        word kernel_ss, kernel_sp, ctrlreg[8], debugreg[8]; \
        word event_callback_eip, failsafe_callback_eip;     \
        word vm_assist;                                     \
        ...;                                                \
    };

GUEST_STRUCTURES(x86_32, uint32_t)
GUEST_STRUCTURES(x86_64, uint64_t)

/* The upper half of the wall clock's seconds is in one here, in one there. */
struct arch_shared_info_x86_32 {
    uint32_t max_pfn, pfn_to_mfn_frame_list_list;
    uint32_t p2m_cr3, p2m_vaddr, p2m_generation, wc_sec_hi;
    ...;
};

struct shared_info_x86_32 {
    struct vcpu_info_x86_32 vcpu_info[...];
    uint32_t evtchn_pending[...], evtchn_mask[...];
    uint32_t wc_version, wc_sec, wc_nsec;
    struct arch_shared_info_x86_32 arch;
    ...;
};

struct arch_shared_info_x86_64 {
    uint64_t max_pfn, pfn_to_mfn_frame_list_list;
    uint64_t p2m_cr3, p2m_vaddr, p2m_generation;
    ...;
};

struct shared_info_x86_64 {
    struct vcpu_info_x86_64 vcpu_info[...];
    uint64_t evtchn_pending[...], evtchn_mask[...];
    uint32_t wc_version, wc_sec, wc_nsec, wc_sec_hi;
    struct arch_shared_info_x86_64 arch;
    ...;
};

#define FLAT_KERNEL_CS_X86_32 ...
#define FLAT_KERNEL_CS_X86_64 ...
#define FLAT_KERNEL_SS_X86_32 ...
#define FLAT_KERNEL_SS_X86_64 ...
#define MAX_GUEST_CMDLINE ...
#define SIF_MOD_START_PFN ...

/* --- event_channel.h ------------------------------------------------------ */

#define EVTCHNOP_alloc_unbound ...
#define EVTCHNOP_bind_interdomain ...
#define EVTCHNOP_bind_ipi ...
#define EVTCHNOP_bind_vcpu ...
#define EVTCHNOP_bind_virq ...
#define EVTCHNOP_close ...
#define EVTCHNOP_reset ...
#define EVTCHNOP_status ...

#define EVTCHNSTAT_closed ...
#define EVTCHNSTAT_unbound ...
#define EVTCHNSTAT_interdomain ...
#define EVTCHNSTAT_virq ...
#define EVTCHNSTAT_ipi ...

#define VIRQ_DEBUG ...
#define VIRQ_DOM_EXC ...
#define VIRQ_TIMER ...
#define VIRQ_XENOPROF ...
#define VIRQ_XENPMU ...

struct evtchn_alloc_unbound {
    uint16_t dom, remote_dom;
    uint32_t port;
    ...;
};

struct evtchn_bind_interdomain {
    uint16_t remote_dom;
    uint32_t remote_port, local_port;
    ...;
};

struct evtchn_bind_ipi {
    uint32_t vcpu, port;
    ...;
};

struct evtchn_bind_vcpu {
    uint32_t port, vcpu;
    ...;
};

struct evtchn_bind_virq {
    uint32_t virq, vcpu, port;
    ...;
};

struct evtchn_close {
    uint32_t port;
    ...;
};

struct evtchn_reset {
    uint16_t dom;
    ...;
};

struct evtchn_status {
    uint16_t dom;
    uint32_t port, status, vcpu;
    union {
        struct {
            uint16_t dom;
        } unbound;
        struct {
            uint16_t dom;
            uint32_t port;
        } interdomain;
        uint32_t virq;
    } u;
};

/* --- grant_table.h -------------------------------------------------------- */

#define GNTTAB_RESERVED_CONSOLE ...
#define GNTTAB_RESERVED_XENSTORE ...
#define GTF_permit_access ...

struct grant_entry_v1 {
    uint16_t flags, domid;
    uint32_t frame;
    ...;
};

/* --- rings ---------------------------------------------------------------- */

struct xencons_interface {
    char in[...], out[...];
    uint32_t in_cons, in_prod, out_cons, out_prod;
    ...;
};

#define XENSTORE_CONNECTED ...
#define XENSTORE_RECONNECT ...
#define XENSTORE_RING_SIZE ...
#define XENSTORE_SERVER_FEATURE_ERROR ...
#define XENSTORE_SERVER_FEATURE_RECONNECTION ...

struct xenstore_domain_interface {
    char req[...], rsp[...];
    uint32_t req_cons, req_prod, rsp_cons, rsp_prod;
    uint32_t server_features, connection, error;
    ...;
};

/* --- arch-x86/cpuid.h ----------------------------------------------------- */

#define XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD ...
#define XEN_CPUID_FIRST_LEAF ...
#define XEN_CPUID_MAX_NUM_LEAVES ...
#define XEN_CPUID_SIGNATURE_EBX ...
#define XEN_CPUID_SIGNATURE_ECX ...
#define XEN_CPUID_SIGNATURE_EDX ...

#endif
#endif
