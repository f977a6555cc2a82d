/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-2.1-or-later */
/*
 * emu <-> VM process: everything the two agree on.
 *
 * The VM process writes struct emu_shared before the first instruction and
 * only the fields marked "live" afterwards. It trusts nothing it reads back:
 * emu is guest memory. Included by emu (freestanding C), by the VM process's
 * C and, through the C preprocessor, by cffi; so: stdint types, no bit
 * fields, no pointers, explicit padding.
 */
#ifndef ABI_EMU_H
#define ABI_EMU_H

#ifndef ABI_NO_INCLUDES
#include <stdint.h>
#endif

#define EMU_ABI_MAGIC 0x454d5552454e4558 /* "XENERUME" read as bytes */
#define EMU_ABI_VERSION 7

/* --- I/O ports ------------------------------------------------------------ */

/* out %eax: a request, arguments in the vCPU's emu_request. Exits to the VM
 * process, which answers in emu_request.result before the vCPU goes on. */
#define EMU_PORT_REQUEST 0xe0
/* out %eax: "event channel %eax was notified"; an ioeventfd per port that has
 * its other end outside, so it normally does not reach the VM process. */
#define EMU_PORT_NOTIFY 0xe4

/* --- interrupt vectors of the in-kernel LAPIC ----------------------------- */

#define EMU_VECTOR_TIMER 0xf0  /* TSC-deadline or one-shot timer */
#define EMU_VECTOR_EVTCHN 0xf1 /* irqfd: look at struct emu_pending */
#define EMU_VECTOR_IPI 0xf2    /* another vCPU: look at everything */
#define EMU_VECTOR_TICK 0xf3   /* the timer, where it repeats by itself */
#define EMU_VECTOR_SPURIOUS 0xff

/* --- ring 0's selectors ---------------------------------------------------- */

/* What a vCPU begins with at emu's first instruction; emu's own GDT has both. */
#define EMU_CS 0xe008
#define EMU_DS 0xe010

/* --- requests ------------------------------------------------------------- */

#define EMU_REQUEST_CONSOLE 1 /* data[0..length): bytes for the log */
/* arg[0]: SHUTDOWN_* of xen/sched.h. Answered for a suspend alone: result 1 is
 * SCHEDOP_shutdown's, it was called off and the guest goes on. */
#define EMU_REQUEST_SHUTDOWN 2
#define EMU_REQUEST_CRASH 3 /* guest's fault: text, registers in frame */
#define EMU_REQUEST_BUG 4   /* emu's fault: likewise */
#define EMU_REQUEST_READY 5 /* vCPU 0 is about to enter the guest */
/* arg[0]: EVTCHNOP_* of xen/event_channel.h, data[0..length): its structure,
 * which comes back filled in. Only with EMU_FLAG_EVTCHND. */
#define EMU_REQUEST_EVTCHN 6
/* arg[0]: EMU_BALLOON_*, data[0..length): machine page numbers, 64 bits each.
 * result: 0, or one of Xen's errors; of a TAKE then nothing is the guest's. */
#define EMU_REQUEST_BALLOON 7

#define EMU_BALLOON_GIVE 0 /* to the host: they read as zeros from then on */
#define EMU_BALLOON_TAKE 1 /* from the host, which may have none left */

/* arg[0]: number of a vCPU that is to start at emu's entry; once for each. */
#define EMU_REQUEST_START_VCPU 8
/* arg[0]: EMU_NOTICE_*: the guest wants what this KVM does not have. Said once
 * in the log, however often it is asked for. */
#define EMU_REQUEST_NOTICE 9

/* arg[0], arg[1]: id and timeout of struct sched_watchdog. result:
 * SCHEDOP_watchdog's. */
#define EMU_REQUEST_WATCHDOG 10

#define EMU_NOTICE_BREAKPOINTS 0 /* debug registers that stop ring 3 */
#define EMU_NOTICE_NARROW_CODE 1 /* 32-bit code is interpreted */

#define EMU_REQUEST_DATA_BYTES 512

/* --- emu_shared.quirks: differences between KVMs, named -------------------- */

/*
 * Ring 0 is interpreted (a software KVM, docs/design.md): emu's C runs at ring
 * 3 in the guest kernel's address space, ring 0 keeps only what needs it.
 */
#define EMU_QUIRK_SLOW_RING0 0x1

/* --- emu_shared.flags: what there is outside ------------------------------- */

/*
 * evtchnd owns the domain's ports: emu asks (EMU_REQUEST_EVTCHN) and keeps
 * what it needs for sending. Without it the domain is alone, and emu's table
 * is all there is.
 */
#define EMU_FLAG_EVTCHND 0x1

/* --- guest registers ------------------------------------------------------- */

/*
 * The guest's registers as emu's entry code saves them, lowest address first.
 * The part from rip on is the hardware's own frame.
 */
struct emu_frame {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
    uint64_t rax, rcx, rdx, rsi, rdi;
    uint64_t vector;     /* IDT vector, or EMU_FRAME_* */
    uint64_t error_code; /* 0 where the vector has none */
    uint64_t rip, cs, rflags, rsp, ss;
};

#define EMU_FRAME_SYSCALL 0x100
#define EMU_FRAME_SYSCALL32 0x101 /* SYSCALL of a 32-bit code segment */
#define EMU_FRAME_SYSENTER 0x102

/* --- flight recorder -------------------------------------------------------- */

#define EMU_TRACE_HYPERCALL 1 /* nr: __HYPERVISOR_*; arg: first two; result */
#define EMU_TRACE_TRAP 2      /* nr: vector; arg: error code, cr2 */
#define EMU_TRACE_SYSCALL 3   /* guest user system call; arg: rax, rdi */
#define EMU_TRACE_IRQ 4       /* nr: LAPIC vector */
#define EMU_TRACE_PRIVOP 5    /* nr: EMU_PRIVOP_*; arg: register values */

/* What happens again and again in the same way is one entry. */
struct emu_trace {
    uint64_t tsc; /* of the first time */
    uint64_t rip;
    uint64_t arg[2];
    uint64_t result;
    uint32_t kind; /* EMU_TRACE_*, 0: never written */
    uint32_t nr;
    uint64_t last_tsc; /* of the last time */
    uint32_t repeats;  /* how many times after the first */
    uint32_t reserved;
};

#define EMU_TRACE_ENTRIES 128

/* Privileged guest instructions emulated at ring 3, for the counters. */
#define EMU_PRIVOP_CPUID 0
#define EMU_PRIVOP_CR_READ 1
#define EMU_PRIVOP_CR_WRITE 2
#define EMU_PRIVOP_MSR_READ 3
#define EMU_PRIVOP_MSR_WRITE 4
#define EMU_PRIVOP_IO 5
#define EMU_PRIVOP_DR 6
#define EMU_PRIVOP_OTHER 7
#define EMU_PRIVOP_NR 8

#define EMU_NR_HYPERCALLS 64

/* Written by emu alone, read by anybody at any time (each is one store). */
struct emu_counters {
    uint64_t hypercall[EMU_NR_HYPERCALLS]; /* by __HYPERVISOR_* number */
    uint64_t hypercall_unknown;            /* answered -ENOSYS */
    uint64_t trap[32]; /* exceptions from the guest, by vector */
    uint64_t soft_int; /* int n with n >= 32 */
    uint64_t syscall;  /* system calls of guest user space */
    uint64_t iret;     /* returns to guest user space */
    uint64_t irq;      /* LAPIC interrupts */
    uint64_t upcall;   /* event callbacks delivered */
    uint64_t privop[EMU_PRIVOP_NR];
    uint64_t fixup;      /* page faults emu resolved by itself */
    uint64_t ring0;      /* entries to ring 0 (with SLOW_RING0: the cost) */
    uint64_t mmu_update; /* single entries of mmu_update */
    uint64_t tlb_flush;
    uint64_t block; /* times the vCPU halted */
};

/* --- request block ---------------------------------------------------------- */

struct emu_request {
    uint32_t nr;     /* EMU_REQUEST_*, also in %eax of the out */
    uint32_t length; /* bytes of data that count, text without its NUL */
    uint64_t arg[4];
    int64_t result; /* VM process: the answer */
    uint8_t data[EMU_REQUEST_DATA_BYTES];
    struct emu_frame frame; /* CRASH and BUG: whose registers */
    uint64_t cr2, cr3;      /* likewise */
};

/* --- per-vCPU block --------------------------------------------------------- */

#define EMU_VCPU_TRACE_OFFSET 0x2000
#define EMU_VCPU_PRIVATE_OFFSET 0x4000
#define EMU_VCPU_IN_GUEST \
    0x1                 /* emu_vcpu.state: the guest's registers are live */
#define EMU_VCPU_UP 0x2 /* VCPUOP_up was called (vCPU 0: from the start) */
#define EMU_VCPU_BLOCKED 0x4

/*
 * Head of the 32 KiB block; trace[] follows at EMU_VCPU_TRACE_OFFSET, emu's
 * private part (TSS, stacks) at EMU_VCPU_PRIVATE_OFFSET.
 */
struct emu_vcpu {
    uint32_t id;
    uint32_t state;      /* EMU_VCPU_*; emu writes */
    uint64_t frame_gpa;  /* where the guest's emu_frame is when not IN_GUEST */
    uint64_t kernel_cr3; /* machine address of the guest kernel's root */
    uint64_t user_cr3;   /* of guest user space's, 0: none yet */
    uint32_t in_kernel;  /* guest is in kernel mode (emu writes) */
    uint32_t trace_next; /* free running; slot is trace_next % ENTRIES */
    uint64_t reserved[2];
    struct emu_counters counters;
    struct emu_request request;
};

/* --- events from outside ----------------------------------------------------- */

#define EMU_NR_EVTCHN 4096
#define EMU_PENDING_WORD_BITS 64

/*
 * Set from outside with atomic or: the port's bit first, then its word's bit
 * in selector, then the irqfd. emu takes selector and words with xchg, moves
 * the bits into shared_info and makes the upcall.
 */
struct emu_pending {
    uint64_t selector; /* bit n: word n of bits is not zero */
    uint64_t reserved[7];
    uint64_t bits[EMU_NR_EVTCHN / EMU_PENDING_WORD_BITS];
};

/* --- page types ------------------------------------------------------------------ */

/*
 * A 32-bit word for each machine page, right behind the M2P. Before the start
 * the VM process writes those of the guest's first tables; then emu alone
 * does. EMU_TYPE_REF and above count what says that the page is a table of the
 * level: entries one level above, a pin, its use as a root that is not pinned.
 */
#define EMU_TYPE_LEVEL 0x7 /* 1 to 4 while the count is not 0 */
#define EMU_TYPE_PINNED 0x8
#define EMU_TYPE_ROOT 0x10
#define EMU_TYPE_REF 0x100

/* --- clock -------------------------------------------------------------------- */

/*
 * Live: the VM process writes it under an odd version, as Xen does with
 * vcpu_time_info; emu copies it to the guest when version has moved.
 * system_ns = system_time_ns + ((tsc - tsc_timestamp) << shift) * mul >> 32
 * (a negative shift shifts right).
 */
struct emu_clock {
    uint32_t version;
    int32_t tsc_shift;
    uint64_t tsc_timestamp;
    uint64_t system_time_ns;
    uint32_t tsc_to_system_mul;
    uint32_t wc_nsec; /* wall clock at system time 0 */
    uint64_t wc_sec;
};

/* --- console ------------------------------------------------------------------- */

/*
 * Live: who serves the console and will look into its ring by itself need not
 * be told of each line. The port is rung only while at least so many bytes of
 * output wait there; 0: always. Who puts 0 back looks once more after that.
 */
struct emu_console {
    uint64_t ring_gpa; /* struct xencons_interface, in the guest's memory */
    uint32_t doorbell_bytes;
    uint32_t reserved;
};

/* --- CPUID ---------------------------------------------------------------------- */

#define EMU_CPUID_SUBLEAF 0x1 /* subleaf counts */

struct emu_cpuid {
    uint32_t leaf, subleaf, flags;
    uint32_t eax, ebx, ecx, edx;
    uint32_t reserved;
};

#define EMU_MAX_CPUID 96

/* --- the shared page ------------------------------------------------------------- */

struct emu_shared {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;  /* sizeof(struct emu_shared) */
    uint32_t quirks; /* EMU_QUIRK_* */
    uint32_t domid;
    uint32_t nr_vcpus;
    uint32_t nr_cpuid; /* entries of cpuid[] that count */

    /* Memory. pfn p is machine page guest_mfn + p, plus the machine hole. */
    uint64_t guest_mfn;
    uint64_t guest_nr_pages;   /* at most; the M2P says which it has */
    uint64_t machine_nr_pages; /* end of the vmcore, in pages */
    uint64_t m2p_nr_entries;

    /* Start of day of vCPU 0, as the builder laid it out. */
    uint64_t start_rip, start_rsp, start_info_va, start_cr3;

    /* Ports that exist from the start with their other end outside; 0: none. */
    uint32_t console_port, store_port;

    /* Domain handle (uuid), as XENVER_guest_handle returns it. */
    uint8_t handle[16];

    uint32_t flags;     /* EMU_FLAG_* */
    uint32_t is_paused; /* live, for who looks on: no vCPU is let run */
    uint64_t xcr0;      /* what the guest may enable, 0: no XSAVE */
    uint64_t tsc_khz;
    struct emu_clock clock; /* live */
    struct emu_console console;

    struct emu_cpuid cpuid[EMU_MAX_CPUID];
};

#endif
