/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The trap table, and what becomes of a trap. */
#include "tests/guests/lib/guest.h"

#define STUB_BYTES 32

struct caught caught;
uint64_t probe_rip, probe_end;
bool (*trap_hook)(struct regs *regs);
bool (*syscall_hook)(struct regs *regs);
trap_info_t trap_table[257];

void trap_handler(struct regs *regs);
void event_handler(void);

/* Gates that a user program may use, as in every kernel. */
static unsigned int default_dpl(unsigned int vector)
{
    return vector == X86_BP || vector == X86_OF || vector == 0x80 ? 3 : 0;
}

static void fill_gate(trap_info_t *t, unsigned int vector, unsigned int dpl,
                      bool mask_events)
{
    t->vector = (uint8_t)vector;
    t->flags = (uint8_t)(dpl | (mask_events ? 4 : 0));
    t->cs = FLAT_KERNEL_CS;
    t->address = (unsigned long)trap_stubs + vector * STUB_BYTES;
}

void trap_gate(unsigned int vector, unsigned int dpl, bool mask_events)
{
    trap_info_t one[2] = {{0}};

    fill_gate(one, vector, dpl, mask_events);
    if (CALL(set_trap_table, one))
        panic("set_trap_table with one entry");
}

static int64_t register_callback(unsigned int type, unsigned int entry)
{
    struct callback_register reg = {
        .type = (uint16_t)type,
        .flags = type == CALLBACKTYPE_event ? 0 : CALLBACKF_mask_events,
        .address = (unsigned long)trap_stubs + entry * STUB_BYTES,
    };

    return CALL(callback_op, CALLBACKOP_register, &reg);
}

void traps_init(void)
{
    unsigned int n = 0;

    for (unsigned int vector = 0; vector < 256; vector++)
        if (vector < 32 || vector == 0x80)
            fill_gate(&trap_table[n++], vector, default_dpl(vector), false);
    if (CALL(set_trap_table, trap_table))
        panic("set_trap_table");
    if (register_callback(CALLBACKTYPE_event, ENTRY_EVENT) ||
        register_callback(CALLBACKTYPE_failsafe, ENTRY_FAILSAFE) ||
        register_callback(CALLBACKTYPE_syscall, ENTRY_SYSCALL))
        panic("callback_op");
}

static void record(const struct regs *r)
{
    caught.taken = true;
    caught.vector = (unsigned int)r->entry;
    caught.error = r->error;
    caught.rip = r->rip;
    caught.rflags = r->rflags;
    caught.rsp = r->rsp;
    caught.cs = (uint16_t)r->cs;
    caught.ss = (uint16_t)r->ss;
    caught.saved_mask = (uint8_t)(r->cs >> 32);
    caught.handler_mask = vcpu_info()->evtchn_upcall_mask;
    caught.cr2 = vcpu_info()->arch.cr2;
    caught.handler_rsp = (uint64_t)&r->rip;
    caught.regs = *r;
}

struct probe {
    uint64_t start, end;
};
extern const struct probe probes_start[], probes_end[];

static bool find_probe(uint64_t rip)
{
    for (const struct probe *p = probes_start; p < probes_end; p++) {
        if (rip < p->start || rip > p->end)
            continue;
        probe_rip = p->start;
        probe_end = p->end;
        return true;
    }
    return false;
}

static void unexpected(const struct regs *r)
{
    print("unexpected trap %lu error 0x%lx at 0x%lx from %s, cr2 0x%lx\n",
          r->entry, r->error, r->rip, (r->cs & 3) == 3 ? "user" : "kernel",
          vcpu_info()->arch.cr2);
    print("  rsp 0x%lx rflags 0x%lx rax 0x%lx rcx 0x%lx rdi 0x%lx\n", r->rsp,
          r->rflags, r->rax, r->rcx, r->rdi);
    panic("unexpected trap");
}

static void from_user(struct regs *r)
{
    if (r->entry == ENTRY_SYSCALL) {
        if (syscall_hook && syscall_hook(r))
            return;
        record(r);
        user_leave(r->rax == USER_EXIT ? r->rdi : ~0UL);
    }
    record(r);
    user_leave(~0UL);
}

void trap_handler(struct regs *r)
{
    if (trap_hook && trap_hook(r))
        return;
    if (r->entry == ENTRY_EVENT) {
        event_handler();
        return;
    }
    if ((r->cs & 3) == 3) {
        from_user(r);
        return;
    }
    if (!find_probe(r->rip))
        unexpected(r);
    record(r);
    r->rip = probe_end;
    r->rflags &= ~(RFLAGS_TF | RFLAGS_AC);
}
