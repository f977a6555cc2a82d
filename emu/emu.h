/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * emu's own view of things: the vCPU block, the machine, and what each file
 * offers to the others. Nothing here crosses a boundary; abi/emu.h does.
 *
 * There are no writable globals: what is written at run time stands in the
 * vCPU block (found from the stack pointer), in struct emu_shared, or beside
 * the M2P.
 */
#ifndef EMU_EMU_H
#define EMU_EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/physdev.h>
#include <xen/version.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/callback.h>

#include "abi/emu.h"
#include "abi/layout.h"
#include "emu/x86.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define unlikely(x) __builtin_expect(!!(x), 0)
#define barrier() __asm__ volatile("" ::: "memory")
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

/* --- selectors (xen-x86_64.h gives the guest's, abi/emu.h ring 0's) ------- */

#define EMU_TSS 0xe040
#define EMU_LDT 0xe050
/* First byte of a GDT that is not the guest's (FIRST_RESERVED_GDT_BYTE). */
#define EMU_GDT_BYTE 0xe000
#define EMU_GDT_PAGES 14

/* --- the vCPU block --------------------------------------------------------- */

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
    uint32_t pci_address, cmos_index; /* others: the domain's, vCPU 0's count */
    uint64_t vm_assist;               /* others: one value for all */
    uint32_t nmi_pending;             /* others set */
    uint32_t told_narrow_code;        /* EMU_NOTICE_NARROW_CODE has been said */
    uint32_t fpu_ts;                  /* guest asked for CR0.TS */

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

    uint16_t virq_port[NR_VIRQS]; /* others, under event_channel.c's lock */

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

/* --- machine memory ------------------------------------------------------- */

#define machine(gpa) ((void *)(DIRECTMAP_VIRT + (uint64_t)(gpa)))
#define shared ((struct emu_shared *)machine(EMU_SHARED_GPA))
#define shinfo ((shared_info_t *)machine(SHARED_INFO_GPA))
#define m2p ((uint64_t *)machine(M2P_GPA))
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

/* Can the CPU hold this address at all? */
static inline bool canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

/* In Xen's part of the address space, which is emu's here. */
static inline bool in_hole(uint64_t va)
{
    unsigned int l4_slot = (va >> 39) & 511;

    return l4_slot >= XEN_FIRST_SLOT && l4_slot < XEN_END_SLOT;
}

/* Xen's hole is emu's: a guest that points there is refused, as on Xen. */
static inline bool reaches_hole(uint64_t va, uint64_t bytes)
{
    uint64_t first = (uint64_t)XEN_FIRST_SLOT << 39 | 0xffffUL << 48;
    uint64_t end = (uint64_t)XEN_END_SLOT << 39 | 0xffffUL << 48;

    return va + bytes < va || (va < end && va + bytes > first);
}

/* Does a guest that names this domain mean itself? */
static inline bool is_self(uint64_t domid)
{
    return (domid & 0xffff) == DOMID_SELF || (domid & 0xffff) == shared->domid;
}

/* --- guest memory (uaccess.c) ------------------------------------------------ */

/*
 * Copy between emu and guest virtual memory under the guest kernel's root.
 * Return 0, or -EFAULT when a byte is not mapped or lies in Xen's hole;
 * what was copied before the fault stays copied.
 */
int copy_from_guest(void *to, uint64_t va, uint64_t bytes);
int copy_to_guest(uint64_t va, const void *from, uint64_t bytes);

/*
 * The same under a root that need not be the loaded one, by a walk of its
 * tables: what user space gets, which may read and write through its own alone,
 * and what its kernel has while user space runs. False: *fault says what the
 * processor would.
 */
struct page_fault {
    uint64_t va, error_code;
};
bool copy_from_root(uint64_t root, void *to, uint64_t va, uint64_t bytes,
                    struct page_fault *fault);
bool copy_to_root(uint64_t root, uint64_t va, const void *from, uint64_t bytes,
                  struct page_fault *fault);
/* What the guest's kernel has registered, also where an interrupt of user space
 * has left that one's root loaded: 0 or -EFAULT. */
int copy_from_kernel(struct vcpu *v, void *to, uint64_t va, uint64_t bytes);
int copy_to_kernel(struct vcpu *v, uint64_t va, const void *from,
                   uint64_t bytes);
/* RIP after a fault at rip in emu, or 0 when no access was expected to. */
uint64_t fixup_exception(uint64_t rip);

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int c, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

/* --- who may end what (request.c) ------------------------------------------------ */

/* The guest's fault: ends the domain with reason crash. */
void crash_domain(const char *why) __attribute__((noreturn));
/* Ours. */
void bug(const char *why) __attribute__((noreturn));
#define BUG_ON(x)                  \
    do {                           \
        if (unlikely(x))           \
            bug(__FILE__ ": " #x); \
    } while (0)

void request(struct vcpu *v, uint32_t nr);
/* The flight recorder (trace.c): the entry's number, for its result. */
uint32_t trace(struct vcpu *v, uint32_t kind, uint32_t nr, uint64_t rip,
               uint64_t arg0, uint64_t arg1);
void trace_result(struct vcpu *v, uint32_t nr, uint64_t result);

/* --- traps, bounce frames, return (traps.c inject.c bounce.c iret.c) ------- */

void enter_kernel_mode(struct vcpu *v);
void enter_user_mode(struct vcpu *v);
/* Through the guest's gate for vector; flags: BOUNCE_*. */
void inject_gate(struct vcpu *v, struct emu_frame *f, uint8_t vector, int flags,
                 uint64_t error_code);
/* Raise exception vector in the guest; the frame is that of the instruction. */
void inject_trap(struct vcpu *v, struct emu_frame *f, uint8_t vector,
                 uint64_t error_code);
void inject_page_fault(struct vcpu *v, struct emu_frame *f, uint64_t cr2,
                       uint64_t error_code);
void bounce(struct vcpu *v, struct emu_frame *f, const struct callback *to,
            int flags, uint64_t error_code);
#define BOUNCE_ERROR_CODE 0x1
#define BOUNCE_FAILSAFE 0x2
#define BOUNCE_REFUSED 0x4 /* with the selectors of VCPUOP_initialise */

/* Gates that an int instruction of the guest may go through: #BP, #OF and
 * 0x80. All others raise #GP, which becomes what the guest has set up. */
static inline bool open_gate(unsigned int vector)
{
    return vector == X86_TRAP_BP || vector == X86_TRAP_OF || vector == 0x80;
}

/* From the entry code: a trap of the guest's, a system call, a trap of emu's own,
 * an iretq that the processor refused. */
void guest_trap(struct emu_frame *f);
void guest_syscall(struct emu_frame *f);
void emu_trap(struct emu_frame *f);
void iret_fault(struct vcpu *v);
void prepare_exit(struct vcpu *v);
/* A value of CR4's as the guest may have it, and the register's from that. */
uint64_t guest_cr4(const struct vcpu *v, uint64_t value);
void load_cr4(const struct vcpu *v);
bool emulate_privileged(struct vcpu *v, struct emu_frame *f);
bool emulate_forced(struct vcpu *v, struct emu_frame *f);
/* A page fault of the guest's at cr2 (m2p_load.c). */
bool emulate_m2p_load(struct vcpu *v, struct emu_frame *f, uint64_t cr2);
/* At int3, int n, or into that traps: move past it (decode.c). */
bool skip_int(const struct vcpu *v, struct emu_frame *f, uint8_t *opcode,
              uint8_t *vector);

/* --- memory management (mm.c) ----------------------------------------------------- */

#define PTE_P 0x1UL
#define PTE_RW 0x2UL
#define PTE_US 0x4UL
#define PTE_A 0x20UL
#define PTE_D 0x40UL
#define PTE_PS 0x80UL
#define PTE_NX 0x8000000000000000UL
#define PTE_MFN(e) (((e) >> PAGE_SHIFT) & 0xffffffffffUL)

/* Entry that maps va at level (1: page) under root, or NULL. */
uint64_t *walk(uint64_t root, uint64_t va, int level);
/* root: the one that was loaded, which for emu's own faults is emu_cr3. */
bool fix_page_fault(struct vcpu *v, uint64_t root, uint64_t va,
                    uint64_t error_code);
void install_emu_slots(uint64_t root, bool user);
void flush_local(struct vcpu *v);
void flush_local_va(struct vcpu *v, uint64_t va);
void mm_prepare_exit(struct vcpu *v);
/* How many of a list of operations were done, if asked; rc. */
int report_done(uint64_t pdone, uint64_t done, int rc);
int set_ldt(struct vcpu *v, uint64_t base, uint64_t entries);
int set_gdt_frames(struct vcpu *v, const uint64_t *mfns, unsigned int entries);
void init_gdt(struct vcpu *v);
bool fix_ldt_fault(struct vcpu *v, uint64_t cr2, uint64_t error_code);
bool inject_ldt_fault(struct vcpu *v, struct emu_frame *f, uint64_t cr2);
/* A code or data descriptor; system descriptors are not is_segment. */
struct descriptor {
    uint64_t base, limit;
    bool is_segment, is_present, is_code, is_writable, is_64bit, is_32bit;
};
/* What a selector of the guest's names. False: it can name nothing. */
bool read_descriptor(const struct vcpu *v, uint16_t selector,
                     struct descriptor *d);

/* --- segment registers and their bases (segments.c) ----------------------------------- */

/* Those of VCPUOP_initialise, at ring 0. False: the processor refused one, and
 * a NUL selector is there in its place. */
bool load_first_segments(struct vcpu *v);

/* --- debug registers (debugregs.c) ------------------------------------------------------ */

void init_debugregs(struct vcpu *v);
/* As VCPUOP_initialise gave them: those that are refused stay as they are. */
void load_first_debugregs(struct vcpu *v);
/* 0, or one of set_debugreg's errors: the guest's `mov`. */
int write_debugreg(struct vcpu *v, uint64_t nr, uint64_t value);
int read_debugreg(const struct vcpu *v, uint64_t nr, uint64_t *value);
/* DR6 bits of the breakpoints that an access to these ports hits. */
uint32_t port_breakpoints(const struct vcpu *v, unsigned int port,
                          unsigned int bytes);

/* Emu's entries of a root: only an L4 has entries that are not the guest's. */
static inline bool emu_slot(int level, unsigned int i)
{
    return unlikely(level == 4) && i >= XEN_FIRST_SLOT && i < XEN_END_SLOT;
}

/* Unless it is another one by now: the processor, the guest and other vCPUs
 * write entries as well. Then what needs it faults again. */
static inline void replace_entry(uint64_t *e, uint64_t old, uint64_t value)
{
    __atomic_compare_exchange_n(e, &old, value, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
}

/* As MMU_PT_UPDATE_PRESERVE_AD wants it, if asked; what stood there before. */
static inline uint64_t exchange_entry(uint64_t *e, uint64_t value,
                                      bool preserve_ad)
{
    uint64_t old = READ_ONCE(*e);

    if (value & PTE_P)
        value |= PTE_US;
    if (!preserve_ad)
        return __atomic_exchange_n(e, value, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(e, &old,
                                        value | (old & (PTE_A | PTE_D)), false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        barrier();
    return old;
}

/* --- which pages are tables (page_type.c) -------------------------------------------- */

/* The guest's pages alone (mfn_guest) for pin() and unpin(). */
int pin(uint64_t mfn, int level);
int unpin(uint64_t mfn);
/* The level that a machine page is a table of, 0: of none; mfn_valid(mfn). */
static inline int table_level(uint64_t mfn)
{
    return (int)(READ_ONCE(page_types[mfn]) & EMU_TYPE_LEVEL);
}
int write_link(uint64_t *e, int level, uint64_t value, bool preserve_ad);
/* Take a machine page of the guest's as root: 0 or -EINVAL. */
int set_kernel_root(struct vcpu *v, uint64_t mfn);
int set_user_root(struct vcpu *v, uint64_t mfn);
void drop_root(uint64_t cr3);

/* --- events (event_2l.c) --------------------------------------------------------------- */

void evtchn_init(void);
void evtchn_from_outside(void);
void send_virq(struct vcpu *v, uint32_t virq);
bool evtchn_is_pending(uint32_t port);
/* From the first to the second every event wakes v: it looks at ports. */
void evtchn_poll_begin(struct vcpu *v, uint32_t port);
void evtchn_poll_end(struct vcpu *v);
bool upcall_wanted(const struct vcpu *v);

/* --- time (clock.c timer.c runstate.c; clock.h has the arithmetic) --------- */

void update_time(struct vcpu *v, bool force);
int copy_time(uint64_t va);
void timer_interrupt(struct vcpu *v, bool is_tick);
void timer_program(struct vcpu *v);
void runstate_change(struct vcpu *v, int state);
void runstate_read(struct vcpu *v, struct vcpu_runstate_info *out);

/* --- a guest's tick (tick.c), slow ring 0 only ---------------------------------------- */

void tick_deadline_set(struct vcpu *v, uint64_t timeout_ns);
bool tick_covers(struct vcpu *v, uint64_t next_ns);
void tick_fired(struct vcpu *v, uint64_t now_ns, bool is_due);

/* --- between vCPUs (smp.c) ---------------------------------------------------------------- */

void send_ipi(struct vcpu *to);
void take_ipi(struct vcpu *v);
void flush_vcpus(struct vcpu *v, uint64_t mask);
void lock(struct vcpu *v, uint32_t *word);
void unlock(uint32_t *word);

/* --- vCPUs and interrupts (vcpu.c sched.c) ----------------------------------------------- */

void take_interrupts(struct vcpu *v);
void wait_for_event(struct vcpu *v);
void wait_until_up(struct vcpu *v);
/* VCPUOP_initialise, arg as the guest gave it (context.c). */
int initialise_vcpu(struct vcpu *v, struct vcpu *of, uint64_t arg);
void enter_context(struct vcpu *v);
void vcpu_main(uint32_t id) __attribute__((noreturn));

/* --- hypercalls: number -> name -> handler -> arguments (hypercall.c) ----------------------- */

typedef int64_t hypercall_fn(struct vcpu *v, uint64_t a1, uint64_t a2,
                             uint64_t a3, uint64_t a4, uint64_t a5);

int64_t hypercall(struct vcpu *v, uint64_t nr, uint64_t a1, uint64_t a2,
                  uint64_t a3, uint64_t a4, uint64_t a5);

hypercall_fn do_set_trap_table, do_mmu_update, do_set_gdt, do_stack_switch,
    do_set_callbacks, do_fpu_taskswitch, do_set_debugreg, do_get_debugreg,
    do_update_descriptor, do_memory_op, do_multicall, do_update_va_mapping,
    do_set_timer_op, do_xen_version, do_console_io, do_grant_table_op,
    do_vm_assist, do_update_va_mapping_otherdomain, do_iret, do_vcpu_op,
    do_set_segment_base, do_mmuext_op, do_sched_op, do_sched_op_compat,
    do_callback_op, do_event_channel_op, do_physdev_op,
    do_event_channel_op_compat, do_physdev_op_compat, do_nmi_op;

/* toolstack.c */
hypercall_fn do_platform_op, do_sysctl, do_domctl, do_hvm_op, do_dm_op,
    do_xenpmu_op, do_refused;
int64_t refuse_memory_op(uint64_t cmd, uint64_t arg);
int64_t refuse_physdev_op(uint64_t cmd, uint64_t arg);

#endif
