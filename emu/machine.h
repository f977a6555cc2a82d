/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine: what is where in its memory and whose, and what emu knows of it
 * beside its vCPUs.
 */
#ifndef EMU_MACHINE_H
#define EMU_MACHINE_H

#include <stdint.h>

#include <xen/xen.h>

#include "abi/emu.h"
#include "abi/layout.h"
#include "emu/compiler.h"
#include "emu/vcpu_block.h"
#include "emu/width.h"
#include "emu/x86.h"

#define machine(gpa) ((void *)(DIRECTMAP_VIRT + (uint64_t)(gpa)))
#define shared ((struct emu_shared *)machine(EMU_SHARED_GPA))
#define shinfo ((shared_info_t *)machine(SHARED_INFO_GPA))
#define m2p ((guest_word *)machine(M2P_GPA))
/* EMU_TYPE_*, one for each machine page: right behind the M2P. */
#define page_types \
    ((uint32_t *)machine(M2P_GPA + shared->m2p_nr_entries * sizeof(*m2p)))

static inline struct vcpu *vcpu_by_id(uint32_t id)
{
    return (struct vcpu *)machine(EMU_VCPU_GPA + (uint64_t)id * EMU_VCPU_BYTES);
}

static inline bool slow_ring0(void)
{
    return shared->quirks & EMU_QUIRK_SLOW_RING0;
}

static inline bool mfn_valid(uint64_t mfn)
{
    return mfn < shared->machine_nr_pages &&
           !(mfn >= MACHINE_HOLE_GPA >> PAGE_SHIFT &&
             mfn < MACHINE_HOLE_END_GPA >> PAGE_SHIFT);
}

/* A machine page that belongs to the guest, not to emu. */
static inline bool mfn_guest(uint64_t mfn)
{
    return mfn_valid(mfn) && mfn >= shared->guest_mfn;
}

static inline uint64_t pfn_to_mfn(uint64_t pfn)
{
    uint64_t mfn = shared->guest_mfn + pfn;

    if (mfn >= MACHINE_HOLE_GPA >> PAGE_SHIFT)
        mfn += (MACHINE_HOLE_END_GPA - MACHINE_HOLE_GPA) >> PAGE_SHIFT;
    return mfn;
}

/* Does a guest that names this domain mean itself? */
static inline bool is_self(uint64_t domid)
{
    return (domid & 0xffff) == DOMID_SELF || (domid & 0xffff) == shared->domid;
}

/* --- emu's own state ------------------------------------------------------ */

struct idt_gate {
    uint16_t low, selector;
    uint8_t ist, type;
    uint16_t mid;
    uint32_t high, reserved;
};

#define EMU_MACHINE_VERSION 1

/*
 * All that emu writes at run time beside the vCPU blocks, what the guest sees
 * of its machine (shared_info, the M2P), page tables and the types of pages.
 * One for each machine. Who reads a vmcore finds it by its symbol, and by
 * version and bytes knows whether it is the one described here; saving a
 * machine has to save the fields of the first two parts.
 */
struct emu_machine {
    /*
     * By port: struct evtchn, one word, which event_channel.c stores under
     * evtchn_lock. Who sends loads it without the lock, and finds the port as
     * it was before or after a change. At the beginning of the structure, where
     * a port's word needs no offset.
     */
    uint64_t evtchn[EMU_NR_EVTCHN];

    uint32_t version; /* EMU_MACHINE_VERSION; vCPU 0 at its start */
    uint32_t bytes;   /* sizeof(struct emu_machine); likewise */

    /* --- what the guest has asked for */

    uint64_t vm_assist;    /* bits VMASST_TYPE_*; vm_assist.c, atomically */
    uint32_t grant_frames; /* how many; gnttab.c. All of them are there. */
    /* Written to two registers that keep it; io.c, one store each. */
    uint32_t pci_address, cmos_index;

    /* --- zeros while no vCPU is in emu */

    uint32_t evtchn_lock;  /* smp.c's lock(); around evtchn */
    uint32_t down_lock;    /* vcpu.c; around is_down of all vCPUs */
    uint32_t context_lock; /* context.c; around context */
    uint32_t pollers;      /* vCPUs in SCHEDOP_poll; event_2l.c, atomically */

    /* --- needed for a moment, or made at the start */

    struct vcpu_guest_context context; /* context.c; too large for a stack */
    /* One IDT for all vCPUs; start.c, before the others look at it. */
    struct idt_gate idt[256] __attribute__((aligned(16)));
};

_Static_assert(offsetof(struct emu_machine, version) == 0x8000,
               "where every version has its number");
_Static_assert(sizeof(struct emu_machine) == 0xa460,
               "another layout is another EMU_MACHINE_VERSION");

extern struct emu_machine emu_machine __attribute__((visibility("hidden")));

#endif
