/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The vCPU block: all that emu keeps of a vCPU, and how it is found. */
#ifndef EMU_VCPU_BLOCK_H
#define EMU_VCPU_BLOCK_H

#include <stdint.h>

#include <xen/xen.h>
#include <xen/vcpu.h>

#include "abi/emu.h"
#include "abi/layout.h"
#include "emu/compiler.h"
#include "emu/x86.h"

/* --- selectors (xen-x86_64.h gives the guest's, abi/emu.h ring 0's) ------- */

#define EMU_TSS 0xe040
#define EMU_LDT 0xe050
/* First byte of a GDT that is not the guest's (FIRST_RESERVED_GDT_BYTE). */
#define EMU_GDT_BYTE 0xe000
#define EMU_GDT_PAGES 14
#define EMU_GDT_MOST_ENTRIES (EMU_GDT_PAGES * DESCRIPTORS_PER_PAGE)
#define DT_WINDOW_PAGES (DT_WINDOW_BYTES / PAGE_SIZE)

/* --- the vCPU block ------------------------------------------------------- */

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, iomap_base;
} __attribute__((packed));

/* What the CPU pushes and iretq takes. */
struct iretq_frame {
    uint64_t rip, cs, rflags, rsp, ss;
};

/* LAPIC vectors seen but not yet looked at by C: vcpu.irq_pending. */
#define IRQ_TIMER 0x1
#define IRQ_EVTCHN 0x2
#define IRQ_IPI 0x4
#define IRQ_TICK 0x8

/* vcpu.flush: translations that must go before the guest runs again. */
#define FLUSH_NONE 0
#define FLUSH_ONE 1
#define FLUSH_ALL 2

/* vcpu.to_ring3: where ring0.S goes down to, in entry.S. */
#define TO_RING3_TRAP 0       /* all registers the guest's */
#define TO_RING3_TRAP_RAX 1   /* rax saved below the vector */
#define TO_RING3_PAGE_FAULT 2 /* rax saved in place of the vector */
#define TO_RING3_IRQ_TIMER 3
#define TO_RING3_IRQ_EVTCHN 4
#define TO_RING3_IRQ_IPI 5
#define TO_RING3_IRQ_TICK 6
#define TO_RING3_NR 7
#define IRQ_STACK_BYTES 128 /* each of two, ring0.S */

struct callback {
    uint64_t rip;
    uint32_t mask_events; /* set evtchn_upcall_mask on entry */
    uint32_t reserved;
};

/*
 * One per vCPU, aligned to its size, so that any stack pointer into it finds
 * it. Written by its own vCPU alone, save for what is marked "others", and by
 * whoever initialises it before it runs.
 */
struct vcpu {
    struct emu_vcpu pub;
    uint8_t pad0[EMU_VCPU_TRACE_OFFSET - sizeof(struct emu_vcpu)];
    struct emu_trace trace[EMU_TRACE_ENTRIES];
    uint8_t pad1[EMU_VCPU_PRIVATE_OFFSET - EMU_VCPU_TRACE_OFFSET -
                 EMU_TRACE_ENTRIES * sizeof(struct emu_trace)];
    trap_info_t traps[256]; /* by vector, address 0: none */

    /* Page 0x5000 is also page 14 of this vCPU's GDT. */
    uint64_t gdt[16];
    struct tss tss;
    uint8_t pad2[24];
    uint8_t lstar_stub[32]; /* code, copied from entry.S */
    uint8_t cstar_stub[32]; /* likewise */
    /* The first is written by the stubs, the others are read. */
    uint64_t syscall_rsp, syscall_stack, syscall_entry, syscall32_entry;

    uint32_t irq_pending; /* IRQ_*; entry code sets, C takes */
    uint32_t ipi_sent;    /* others set: EMU_VECTOR_IPI is on its way */
    uint64_t emu_cr3;     /* root in the register, page-table base only */
    uint32_t flush;       /* FLUSH_* */
    uint32_t exit_via;    /* EXIT_*, for the entry code */
    uint64_t flush_va;
    uint32_t flush_asked; /* others count up: flushes asked for */
    uint32_t flush_done;  /* how many of them are done */

    uint32_t is_initialised; /* others: VCPUOP_initialise; then for good */
    uint32_t is_started;     /* others: the VM process runs it */
    uint32_t is_down;        /* others: VCPUOP_down, VCPUOP_up */
    uint32_t ldt_wanted;     /* VCPUOP_initialise: entries of ldt_base */
    /* VCPUOP_initialise: the first ones; ds, es, fs, gs. */
    uint64_t ldt_base, fs_base, gs_base;
    uint16_t selectors[4];

    uint64_t kernel_sp;   /* stack_switch */
    uint64_t gs_inactive; /* slow ring 0, start: see privileged.h */
    struct callback event_callback, failsafe_callback, syscall_callback;
    struct callback syscall32_callback, sysenter_callback, nmi_callback;

    uint64_t mcg_status, mc_ctl2[2]; /* machine checks' (msr.c) */
    uint64_t cr0_guest, cr4_guest;   /* as the guest wrote them */
    uint64_t xcr0;                   /* likewise, 0: not yet */
    /* cpuid.c: leaf 0xd's that was asked last; the kernel knows its mask. */
    uint32_t xsave_subleaf, is_xsave_mask_own;
    uint64_t dr[8];     /* as the processor has them; 4 and 5 unused */
    uint64_t dr7_io;    /* enabled bits of breakpoints on ports */
    uint32_t db_wanted; /* DR6 bits of a #DB after what is being emulated */
    uint32_t ldt_entries, iopl;
    uint64_t iobitmap_va; /* PHYSDEVOP_set_iobitmap */
    uint32_t iobitmap_ports;
    uint32_t nmi_pending;      /* others set */
    uint32_t told_narrow_code; /* EMU_NOTICE_NARROW_CODE has been said */
    uint32_t fpu_ts;           /* guest asked for CR0.TS */

    vcpu_info_t *info;                  /* shared_info's or registered */
    struct vcpu_runstate_info runstate; /* own copy, others read it */
    uint32_t runstate_version;          /* odd: it is being changed */
    uint64_t runstate_va, time_va;      /* registered areas, 0: none; others */
    struct emu_clock clock;             /* as info->time has it */
    uint32_t poll_port;                 /* 0: not polling, ~0: any */

    uint64_t singleshot_ns, poll_ns;
    uint64_t periodic_next_ns, period_ns; /* others */
    uint64_t armed_tsc; /* what the LAPIC was told, 0: nothing */
    /* Slow ring 0: what the next tick will most likely ask for; the timer
     * interrupt's entry tells the LAPIC while it is at ring 0 anyway. */
    uint64_t guess_tsc;
    uint64_t last_singleshot_ns, last_delta_ns;
    /* tick.c: how many alike in a row, since when; while the LAPIC repeats,
     * its distance (else 0), when it will next, and how often before a look. */
    uint32_t nr_alike, tick_left;
    uint64_t tick_first_ns, tick_ns, tick_at_ns;

    uint16_t virq_port[NR_VIRQS]; /* others, under evtchn_lock */

    uint64_t fault_cr2; /* CR2 of the guest's trap, saved at entry */
    uint64_t exit_cr3;  /* root for EXIT_RING0 */
    uint64_t user_root; /* slow ring 0: ring0.S, at its top */
    struct iretq_frame to_ring3[TO_RING3_NR]; /* ring0.S; constant */
    /* Slow ring 0: the interrupts' two stacks, up to and from irq_end. */
    uint8_t irq_stack[IRQ_STACK_BYTES] __attribute__((aligned(16)));
    uint8_t irq_end[IRQ_STACK_BYTES];

    struct {
        uint32_t version, padding;
        uint64_t steal;
        uint8_t preempted, pad[47];
    } __attribute__((aligned(64))) steal; /* MSR_KVM_STEAL_TIME */
    uint64_t steal_seen;

    uint8_t pad3[0] __attribute__((aligned(64)));
    uint8_t ist_stack[1024] __attribute__((aligned(0x200)));
    uint8_t debug_stack[1024]; /* fast ring 0 */
    uint8_t stack[0x2000] __attribute__((aligned(0x1000)));
} __attribute__((aligned(EMU_VCPU_BYTES)));

_Static_assert(sizeof(struct vcpu) == EMU_VCPU_BYTES, "vCPU block size");
_Static_assert(offsetof(struct vcpu, traps) == EMU_VCPU_PRIVATE_OFFSET,
               "private part");
_Static_assert(offsetof(struct vcpu, gdt) == 0x5000, "GDT page");
_Static_assert(offsetof(struct vcpu, stack) == 0x6000, "stack");

/* The guest's frame stands at the same place whatever the entry. */
#define FRAME_OFFSET (EMU_VCPU_BYTES - sizeof(struct emu_frame))
/* With EMU_QUIRK_SLOW_RING0 ring 0 and ring 3 share the stack's two pages. */
#define RING0_STACK_OFFSET 0x7f00
#define RING3_STACK_OFFSET 0x7800

/* How the entry code goes back to the guest (vcpu.exit_via). */
#define EXIT_RING0 0 /* iretq at ring 0; SLOW_RING0: exit_cr3 loaded first */
#define EXIT_RING3 1 /* SLOW_RING0: iretq at ring 3 to the guest kernel */

static inline struct vcpu *this_vcpu(void)
{
    uint64_t sp;

    __asm__("mov %%rsp, %0" : "=r"(sp));
    return (struct vcpu *)(sp & ~(uint64_t)(EMU_VCPU_BYTES - 1));
}

static inline struct emu_frame *guest_frame(struct vcpu *v)
{
    return (struct emu_frame *)((char *)v + FRAME_OFFSET);
}

/* The SYSCALL entry lies outside DIRECTMAP_SLOT, so that an address tells the
 * guest's stop on that stub from a stop inside emu (ring0.S). */
#define LSTAR_ALIAS_VIRT 0xffff818000400000
#define LSTAR_VIRT(v)                                                \
    (LSTAR_ALIAS_VIRT + (uint64_t)(v)->lstar_stub - DIRECTMAP_VIRT - \
     EMU_SHARED_GPA)

#endif
