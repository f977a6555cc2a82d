/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VCPUOP_initialise: what a context may not have, and what a vCPU has of it
 * beside its general registers (smp.c has those).
 */
#include "tests/guests/lib/guest.h"
#include "tests/guests/lib/workers.h"

const char guest_name[] = "contexts";

#define CR4_TSD 0x4UL
#define CR4_DE 0x8UL

static uint32_t nr_failsafes;
static uint64_t seen_cr4, seen_dr0, watched;
static bool was_stopped;

/* One selector that no table has: the others, the bases and the rest hold. */
static void odd_context(struct vcpu_guest_context *c)
{
    c->user_regs.ds = FLAT_KERNEL_DS;
    c->user_regs.es = 0x7ffb;
    c->debugreg[0] = (uint64_t)&watched;
    c->debugreg[7] = 0x90001; /* eight bytes, when they are written */
    c->debugreg[6] = 0xffff0ff0;
    c->ctrlreg[4] = CR4_TSD | CR4_DE;
}

static bool count_failsafe(struct regs *r)
{
    if (r->entry != ENTRY_FAILSAFE)
        return false;
    nr_failsafes++;
    return true;
}

static void look_at_context(void)
{
    seen_dr0 = (uint64_t)CALL(get_debugreg, 0);
    __asm__ volatile("mov %%cr4, %0" : "=r"(seen_cr4));
    PROBE_OP("movq $1, %0", : "=m"(watched) :);
    was_stopped = caught.taken && caught.vector == X86_DB;
}

/* After its start. A selector that is refused: the failsafe callback first. */
static void test_odd_context(void)
{
    check_eq("a refused selector: the failsafe callback", nr_failsafes, 1);
    check(run_on(1, look_at_context), "it looks", "it does not");
    check_eq("its DR0", seen_dr0, (uint64_t)&watched);
    if (software_kvm())
        skip("its breakpoint stops it", "a software KVM has none");
    else
        check(was_stopped, "its breakpoint stops it", "it does not");
    check_eq("its CR4", seen_cr4 & (CR4_TSD | CR4_DE), CR4_TSD | CR4_DE);
}

/* Whatever else is right: a word of the context, and what it cannot be. */
static const struct {
    const char *name;
    size_t at;
    uint64_t value;
} faults[] = {
#define FAULT(field, value)                                       \
    {                                                             \
#field, offsetof(struct vcpu_guest_context, field), value \
    }
    FAULT(user_regs.rip, 0x8000000000000000),
    FAULT(user_regs.rsp, 0x8000000000000000),
    FAULT(kernel_sp, 0x8000000000000000),
    FAULT(ldt_base, 0x8000000000000000),
    FAULT(ldt_base, 0x10),
    FAULT(ldt_ents, 8193),
    FAULT(gdt_ents, 0xe000),
    FAULT(ctrlreg[3], 0),
    FAULT(ctrlreg[1], 1), /* a user's root: page 0, which is not a guest's */
    FAULT(debugreg[1], 0xffff818000000000),
    FAULT(debugreg[6], 1UL << 32),
    FAULT(debugreg[7], 1UL << 32),
    FAULT(trap_ctxt[255].address, 0xdead000000000000),
    FAULT(event_callback_eip, 0xdead000000000000),
    FAULT(failsafe_callback_eip, 0xdead000000000000),
    FAULT(syscall_callback_eip, 0xdead000000000000),
    FAULT(fs_base, 0xdead000000000000),
    FAULT(gs_base_kernel, 0xdead000000000000),
    FAULT(gs_base_user, 0xdead000000000000),
    /* User mode without a root for it. */
    FAULT(flags, 0),
};
static unsigned int fault;

static void faulty_context(struct vcpu_guest_context *c)
{
    memcpy((char *)c + faults[fault].at, &faults[fault].value, 8);
}

static void test_refused_contexts(unsigned int vcpu)
{
    vcpu_change = faulty_context;
    for (fault = 0; fault < ARRAY_SIZE(faults); fault++)
        check_rc(faults[fault].name,
                 vcpu_initialise(vcpu, worker_main, 0, &workers[vcpu]),
                 -XEN_EINVAL);
}

/* --- a first instruction in user mode ------------------------------------------ */

#define STARTED 0x57a7
static uint64_t user_said;
static uint32_t nr_said;

USER static void user_start(void)
{
    __asm__ volatile("movq %%gs:0, %%rdi\n\tsyscall" ::"a"(STARTED));
    __builtin_unreachable();
}

static void user_context(struct vcpu_guest_context *c)
{
    c->flags = 0;
    c->ctrlreg[1] = user_root_mfn << 12;
    c->user_regs.rip = user_va(user_start);
    c->user_regs.rsp = USER_STACK_TOP;
    c->user_regs.fs = 0x7ffb;
    c->gs_base_user = USER_DATA_VA;
}

/* On that vCPU, which stays here. */
static bool hear_user(struct regs *r)
{
    if (count_failsafe(r))
        return true;
    if (r->entry != ENTRY_SYSCALL || r->rax != STARTED)
        return false;
    user_said = r->rdi;
    __atomic_fetch_add(&nr_said, 1, __ATOMIC_SEQ_CST);
    for (;;)
        CALL(sched_op, SCHEDOP_block, 0);
}

static void test_user_context(void)
{
    *(uint64_t *)user_data = 0x900d;
    nr_failsafes = 0;
    trap_hook = hear_user;
    vcpu_change = user_context;
    check_rc("initialise in user mode",
             vcpu_initialise(2, worker_main, 0, &workers[2]), 0);
    check_rc("up", CALL(vcpu_op, VCPUOP_up, 2, 0), 0);
    check(wait_for(&nr_said, 1), "its system call arrives", "it does not");
    check_eq("it had the user's base", user_said, 0x900d);
    check_eq("behind its kernel's failsafe callback", nr_failsafes, 1);
    trap_hook = NULL;
}

void guest_main(void)
{
    struct worker *w = &workers[1];

    events_init();
    user_init();
    if (CALL(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0))
        panic("stop_periodic_timer");
    w->magic = 0x5ca1ab1e;
    w->wake = (evtchn_port_t)bind_ipi_to(1);
    evtchn_unmask(w->wake);
    test_refused_contexts(1);
    vcpu_change = odd_context;
    check_rc("initialise", vcpu_initialise(1, worker_main, 7, w), 0);
    trap_hook = count_failsafe;
    check_rc("up", CALL(vcpu_op, VCPUOP_up, 1, 0), 0);
    check(wait_done(1, 0), "it runs", "it does not");
    trap_hook = NULL;
    check_eq("its %fs", w->seen_fs, w->magic);
    check_eq("its %gs", w->seen_gs, w->magic);
    test_odd_context();
    test_user_context();
}
