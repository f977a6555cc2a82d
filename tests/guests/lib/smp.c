/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vCPUs beside the first: their stacks and how they begin. */
#include "tests/guests/lib/guest.h"

#define STACK_BYTES (2 * PAGE_SIZE)
#define STUB_BYTES 32

static uint8_t stacks[MAX_VCPUS][STACK_BYTES] PAGE_ALIGNED;
/* What vcpu_initialise() last gave Xen: a page and more. */
struct vcpu_guest_context vcpu_context;
void (*vcpu_change)(struct vcpu_guest_context *context);

unsigned int this_vcpu(void)
{
    uint64_t at = (uint64_t)__builtin_frame_address(0) - (uint64_t)stacks;

    return at < sizeof(stacks) ? (unsigned int)(at / STACK_BYTES) : 0;
}

static unsigned long stub(unsigned int entry)
{
    return (unsigned long)trap_stubs + entry * STUB_BYTES;
}

int64_t vcpu_initialise(unsigned int vcpu, void (*main)(uint64_t arg),
                        uint64_t arg, const void *bases)
{
    struct vcpu_guest_context *c = &vcpu_context;
    uint64_t end = (uint64_t)stacks[vcpu] + STACK_BYTES;

    memset(c, 0, sizeof(*c));
    c->flags = VGCF_in_kernel;
    c->user_regs.rip = (uint64_t)main;
    c->user_regs.rdi = arg;
    /* As if it had been called: the ABI's alignment. */
    c->user_regs.rsp = end - 8;
    c->user_regs.cs = FLAT_KERNEL_CS;
    c->user_regs.ss = FLAT_KERNEL_SS;
    c->kernel_ss = FLAT_KERNEL_SS;
    c->kernel_sp = end;
    c->ctrlreg[3] = maddr_of((void *)start_info->pt_base);
    for (const trap_info_t *t = trap_table; t->address; t++)
        c->trap_ctxt[t->vector] = *t;
    c->event_callback_eip = stub(ENTRY_EVENT);
    c->failsafe_callback_eip = stub(ENTRY_FAILSAFE);
    c->syscall_callback_eip = stub(ENTRY_SYSCALL);
    c->fs_base = c->gs_base_kernel = (uint64_t)bases;
    if (vcpu_change)
        vcpu_change(c);
    return CALL(vcpu_op, VCPUOP_initialise, vcpu, c);
}
