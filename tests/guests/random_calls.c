/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel that asks for anything: hypercalls at random, by seed=N and
 * calls=N of its command line. It may end itself, in any way that has a name.
 *
 * With `wild` on the command line also those that take its own ground away.
 * With `scribble` also words written over any memory of this machine, of which
 * emu is some.
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "random_calls";

static uint64_t state;
static uint8_t scratch[4 * PAGE_SIZE] PAGE_ALIGNED;
static bool is_wild, is_scribbling;

static uint64_t any(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static unsigned int below(unsigned int n)
{
    return (unsigned int)(any() >> 33) % n;
}

static uint64_t option(const char *name, uint64_t otherwise)
{
    const char *at = (const char *)start_info->cmd_line;
    uint64_t value = 0;

    for (; *at; at++) {
        if (!starts_with(at, name))
            continue;
        for (at += strlen(name); *at >= '0' && *at <= '9'; at++)
            value = value * 10 + (uint64_t)(*at - '0');
        return value;
    }
    return otherwise;
}

/* Numbers that mean something somewhere: domains, frames, places. */
static uint64_t value(void)
{
    static const uint64_t odd[] = {
        0x7ff0,
        0x7ff1,
        0x7ff4,
        0x8000000000000000,
        0xffffffff,
        0x80000000,
        0x800000000000,
        0xffff7ffffffffff8,
        0xffff808000010000,
        0xffff808000300000,
        0xffff818000505100,
        0xffff87fffffffff8,
        0xdead000000000000,
    };

    switch (below(10)) {
    case 0:
        return any();
    case 1:
    case 2:
        return below(16);
    case 3:
        return odd[below(ARRAY_SIZE(odd))];
    case 4: /* a frame, ours or emu's, or just past the end */
        return below(0x4000);
    case 5:
        return mfn_of(scratch + below(4) * PAGE_SIZE);
    case 6:
        return (uint64_t)below(0x4000) << 12 | below(0x1000);
    case 7:
        return 1UL << below(64);
    default:
        return (uint64_t)scratch + below(sizeof(scratch));
    }
}

static uint64_t pointer(void)
{
    switch (below(8)) {
    case 0:
        return value();
    case 1: /* over the end of what is mapped */
        return (uint64_t)scratch + sizeof(scratch) - below(32);
    default:
        return (uint64_t)scratch + below(3 * PAGE_SIZE) / 8 * 8;
    }
}

/* Structures are made of such words, and of halves of them. */
static void fill(uint8_t *at)
{
    for (unsigned int i = 0; i < 16; i++) {
        uint64_t v = below(3) ? value() : value() << 32 | (uint32_t)value();

        if (below(6))
            memcpy(at + i * 8, &v, sizeof(v));
    }
}

/* What only waits for somebody who will not come. */
static bool is_dull(uint64_t nr, uint64_t sub)
{
    return (nr == __HYPERVISOR_sched_op &&
            (sub == SCHEDOP_block || sub == SCHEDOP_poll)) ||
           (nr == __HYPERVISOR_sched_op_compat && sub == SCHEDOP_block);
}

/* What takes the ground away: the way back to us, or the processor. */
static bool is_fatal(uint64_t nr, uint64_t sub)
{
    switch (nr) {
    case __HYPERVISOR_iret:
    case __HYPERVISOR_set_trap_table:
    case __HYPERVISOR_set_callbacks:
    case __HYPERVISOR_callback_op:
    case __HYPERVISOR_stack_switch:
    case __HYPERVISOR_sched_op_compat:
    case __HYPERVISOR_mmuext_op: /* roots, pages cleared and copied */
    case __HYPERVISOR_multicall:
        return true;
    case __HYPERVISOR_sched_op:
        return sub == SCHEDOP_shutdown;
    case __HYPERVISOR_vcpu_op:
        return sub == VCPUOP_down;
    case __HYPERVISOR_memory_op:
        return sub == XENMEM_decrease_reservation || sub == XENMEM_exchange;
    default:
        return false;
    }
}

static void one_call(void)
{
    uint64_t nr = below(8) ? below(64) : value(), a[5];

    for (unsigned int i = 0; i < 5; i++)
        a[i] = below(3) ? pointer() : value();
    a[0] = below(3) ? below(40) : a[0];
    if (below(2))
        a[2] = below(8);
    if (below(2))
        fill(scratch + below(3 * PAGE_SIZE) / 8 * 8);
    for (unsigned int i = 0; i < 5; i++) {
        if (a[i] >= (uint64_t)scratch &&
            a[i] < (uint64_t)scratch + 3 * PAGE_SIZE)
            fill((uint8_t *)a[i]);
    }
    if (!is_dull(nr, a[0]) && (!is_fatal(nr, a[0]) || (is_wild && !below(16))))
        hypercall(nr, a[0], a[1], a[2], a[3], a[4]);
}

/* An entry of ours that maps any frame, written without being asked. */
static void scribble(void)
{
    static uint8_t window[PAGE_SIZE] PAGE_ALIGNED;
    uint64_t *entry = pte_of(window, 1), old = *entry;
    uint64_t mfn = below(4) ? below(0x800) : value();

    mmu_write(pte_of(entry, 1), *pte_of(entry, 1) | PTE_RW, 0);
    *entry = (mfn & 0xffffffff) << 12 | PTE_KERNEL;
    __asm__ volatile("invlpg (%0)" ::"r"(window) : "memory");
    for (unsigned int i = below(16); i > 0; i--) {
        uint64_t v = value();

        memcpy(window + below(511) * 8, &v, sizeof(v));
    }
    *entry = old;
}

/* Whatever came, go on with the next call. */
static uint64_t go_on_rsp __attribute__((used));
extern const uint8_t go_on[];

static bool hook(struct regs *r)
{
    if (r->entry == ENTRY_EVENT)
        return false;
    r->rip = (uint64_t)go_on;
    r->rsp = go_on_rsp;
    r->rflags = RFLAGS_IF;
    r->cs = FLAT_KERNEL_CS & ~3U;
    r->ss = FLAT_KERNEL_SS;
    return true;
}

static __attribute__((noinline)) void guarded(void (*what)(void))
{
    __asm__ volatile("push %%rbp; push %%rbx\n\t"
                     "mov %%rsp, go_on_rsp(%%rip)\n\t"
                     "sub $8, %%rsp; and $-16, %%rsp\n\t"
                     "call *%0\n"
                     "go_on:\n\t"
                     "cld; mov go_on_rsp(%%rip), %%rsp\n\t"
                     "pop %%rbx; pop %%rbp" ::"a"(what)
                     : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
                       "r12", "r13", "r14", "r15", "cc", "memory");
}

void guest_main(void)
{
    uint64_t calls = option("calls=", 2000);

    state = (option("seed=", 1) + 1) * 0x9e3779b97f4a7c15;
    is_wild = cmdline_has("wild");
    is_scribbling = cmdline_has("scribble");
    CALL(stack_switch, FLAT_KERNEL_SS, kernel_stack + sizeof(kernel_stack));
    trap_hook = hook;
    for (uint64_t i = 0; i < calls; i++) {
        guarded(one_call);
        if (is_scribbling && !below(64))
            guarded(scribble);
    }
    trap_hook = NULL;
    print("random_calls: end, %lu calls\n", calls);
    check(true, "alive", "after %lu calls", calls);
}
