/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each file offers to the others; the vCPU block, the machine and its page
 * tables have headers of their own. Nothing here crosses a boundary: abi/emu.h
 * does.
 *
 * What emu writes at run time stands in the vCPU block, which the stack pointer
 * tells, or in struct emu_machine: there is no other writable object.
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
#include "emu/compiler.h"
#include "emu/machine.h"
#include "emu/page_table.h"
#include "emu/vcpu_block.h"
#include "emu/width.h"
#include "emu/x86.h"

/* --- guest memory (uaccess.c) --------------------------------------------- */

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

/* --- who may end what (request.c) ----------------------------------------- */

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

/* --- traps, bounce frames, return (traps.c inject.c bounce.c iret.c) ------ */

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

/* From the entry code: a trap of the guest's, a system call, a trap of emu's
 * own, an iretq that the processor refused. */
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

/* --- descriptor tables (descriptor_tables.c) ------------------------------ */

int set_ldt(struct vcpu *v, uint64_t base, uint64_t entries);
int set_gdt_frames(struct vcpu *v, const guest_word *mfns,
                   unsigned int entries);
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

/* --- segment registers and their bases (segments.c) ----------------------- */

/* Those of VCPUOP_initialise, at ring 0. False: the processor refused one, and
 * a NUL selector is there in its place. */
bool load_first_segments(struct vcpu *v);

/* --- debug registers (debugregs.c) ---------------------------------------- */

void init_debugregs(struct vcpu *v);
/* As VCPUOP_initialise gave them: those that are refused stay as they are. */
void load_first_debugregs(struct vcpu *v);
/* 0, or one of set_debugreg's errors: the guest's `mov`. */
int write_debugreg(struct vcpu *v, uint64_t nr, uint64_t value);
int read_debugreg(const struct vcpu *v, uint64_t nr, uint64_t *value);
/* DR6 bits of the breakpoints that an access to these ports hits. */
uint32_t port_breakpoints(const struct vcpu *v, unsigned int port,
                          unsigned int bytes);

/* --- events (event_2l.c) -------------------------------------------------- */

void evtchn_init(void);
void evtchn_from_outside(void);
void send_virq(struct vcpu *v, uint32_t virq);
bool evtchn_is_pending(uint32_t port);
/* From the first to the second every event wakes v: it looks at ports. */
void evtchn_poll_begin(struct vcpu *v, uint32_t port);
void evtchn_poll_end(struct vcpu *v);
bool upcall_wanted(const struct vcpu *v);

/* --- time (clock.c timer.c runstate.c; clock.h has the arithmetic) -------- */

void update_time(struct vcpu *v, bool force);
int copy_time(uint64_t va);
void timer_interrupt(struct vcpu *v, bool is_tick);
void timer_program(struct vcpu *v);
void runstate_change(struct vcpu *v, int state);
void runstate_read(struct vcpu *v, struct vcpu_runstate_info *out);

/* --- a guest's tick (tick.c), slow ring 0 only ---------------------------- */

void tick_deadline_set(struct vcpu *v, uint64_t timeout_ns);
bool tick_keep(struct vcpu *v, uint64_t next_ns);
void tick_fired(struct vcpu *v, uint64_t now_ns, bool is_due);

/* --- between vCPUs (smp.c) ------------------------------------------------ */

void send_ipi(struct vcpu *to);
void take_ipi(struct vcpu *v);
void flush_vcpus(struct vcpu *v, uint64_t mask);
void lock(struct vcpu *v, uint32_t *word);
void unlock(uint32_t *word);

/* --- vCPUs and interrupts (vcpu.c sched.c) -------------------------------- */

void take_interrupts(struct vcpu *v);
void wait_for_event(struct vcpu *v);
void wait_until_up(struct vcpu *v);
/* VCPUOP_initialise, arg as the guest gave it (context.c). */
int initialise_vcpu(struct vcpu *v, struct vcpu *of, uint64_t arg);
void enter_context(struct vcpu *v);
void init_machine(void); /* machine_state.c */
void vcpu_main(uint32_t id) __attribute__((noreturn));

/* --- hypercalls: number -> name -> handler -> arguments (hypercall.c) ----- */

typedef int64_t hypercall_fn(struct vcpu *v, guest_word a1, guest_word a2,
                             guest_word a3, guest_word a4, guest_word a5);

int64_t hypercall(struct vcpu *v, guest_word nr, guest_word a1, guest_word a2,
                  guest_word a3, guest_word a4, guest_word a5);

/* How many of a list of operations were done, if asked; rc (mmu_update.c). */
int report_done(uint64_t pdone, uint64_t done, int rc);

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
