/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ways for a domain to end, one for each boot: end=<word> on the command
 * line. The verdict tells that the guest got as far as that.
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "ending";

static uint8_t small_stack[PAGE_SIZE] PAGE_ALIGNED;
static uint64_t empty_l4[512] PAGE_ALIGNED;

static void end_by(unsigned int reason)
{
    verdict();
    shutdown(reason);
}

/* The kernel's stack runs into an unmapped page: no frame can be pushed. */
static void stack_overflow(void)
{
    if (CALL(update_va_mapping, small_stack, 0, UVMF_INVLPG))
        panic("stack page cannot be unmapped");
    verdict();
    __asm__ volatile("mov %0, %%rsp\n\tpush %%rax" ::"r"(small_stack + 64));
}

static void no_handler(void)
{
    trap_info_t gates[2] = {{.vector = X86_UD, .cs = FLAT_KERNEL_CS}};

    CALL(set_trap_table, 0);
    CALL(set_trap_table, gates);
    verdict();
    __asm__ volatile("ud2");
}

/* A root that maps nothing of the guest: not even the next instruction. */
static void empty_root(void)
{
    page_protect(empty_l4, false);
    verdict();
    pin(empty_l4, 4);
    mmuext(MMUEXT_NEW_BASEPTR, mfn_of(empty_l4), 0);
}

/* Xen's part of the root goes: the kernel can map its tables writable, and what
 * is there no more cannot tell of it. */
static void root_without_xen(void)
{
    uint64_t *root = (uint64_t *)start_info->pt_base;

    verdict();
    page_protect(root, true);
    memset(&root[256], 0, 16 * sizeof(*root));
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
}

static void iret_without_frame(void)
{
    verdict();
    __asm__ volatile(
        "mov %0, %%rsp\n\tmov $23, %%eax\n\tsyscall" ::"r"(BAD_POINTER));
}

static void iret_to_user_without_root(void)
{
    struct iret_context c = {.cs = FLAT_USER_CS, .ss = FLAT_USER_SS};

    verdict();
    __asm__ volatile("mov %0, %%rsp\n\tmov $23, %%eax\n\tsyscall" ::"r"(&c));
}

/* With bases that who looks at the stopped guest will know. */
static void loop_for_ever(void)
{
    CALL(set_segment_base, SEGBASE_FS, 0x00000f5ba5e00000);
    CALL(set_segment_base, SEGBASE_GS_KERNEL, 0xffffc95ba5e00000);
    verdict();
    for (;;)
        __asm__ volatile("pause");
}

static void idle_for_ever(void)
{
    verdict();
    events_disable();
    for (;;)
        CALL(sched_op, SCHEDOP_block, 0);
}

/* The flight recorder tells of all of it in a line or two. */
static void spin_and_crash(void)
{
    for (unsigned int i = 0; i < 1000; i++)
        CALL(sched_op, SCHEDOP_yield, 0);
    end_by(SHUTDOWN_crash);
}

static void bad_shutdown(void)
{
    /* Xen takes any byte; whoever looks at it next must cope. */
    end_by(77);
}

/* Everything that emu may have mapped: scribble on what lets us. */
static void scribble(void)
{
    unsigned int hits = 0;

    if (software_kvm()) {
        skip("scribbling on Xen's memory",
             "on a software KVM emu's memory is the guest kernel's");
        end_by(SHUTDOWN_poweroff);
    }
    for (uint64_t va = 0xffff800000000000; va < 0xffff880000000000;
         va += 1UL << 30) {
        for (unsigned int page = 0; page < 4; page++) {
            PROBE_OP("movq %0, (%0)", : : "r"(va + page * 0x200000));
            hits += !caught.taken;
        }
    }
    check_eq("nothing of Xen's can be written", hits, 0);
    end_by(SHUTDOWN_poweroff);
}

/* There is nobody to save the domain: the guest is told so and goes on. */
static void suspend(void)
{
    struct sched_shutdown arg = {.reason = SHUTDOWN_suspend};

    check_rc("suspend is called off", CALL(sched_op, SCHEDOP_shutdown, &arg),
             1);
    end_by(SHUTDOWN_poweroff);
}

/* Each line is told of by an event of its own, as by Linux. */
static void many_lines(void)
{
    for (unsigned int n = 0; n < 20000; n++)
        print("line %u\n", n);
    end_by(SHUTDOWN_poweroff);
}

static const struct {
    const char *word;
    void (*run)(void);
} endings[] = {
    {"end=stack", stack_overflow},  {"end=no-handler", no_handler},
    {"end=empty-root", empty_root}, {"end=iret", iret_without_frame},
    {"end=loop", loop_for_ever},    {"end=user", iret_to_user_without_root},
    {"end=idle", idle_for_ever},    {"end=bad-reason", bad_shutdown},
    {"end=scribble", scribble},     {"end=root", root_without_xen},
    {"end=suspend", suspend},       {"end=lines", many_lines},
    {"end=spin", spin_and_crash},
};

void guest_main(void)
{
    /* By SHUTDOWN_*; the guest survives a suspend, so it is not here. */
    static const char *const reasons[] = {"end=poweroff",  "end=reboot",
                                          "end=no reason", "end=crash",
                                          "end=watchdog",  "end=soft_reset"};

    check(true, "alive", "cannot happen");
    for (unsigned int i = 0; i < ARRAY_SIZE(reasons); i++)
        if (cmdline_has(reasons[i]))
            end_by(i);
    for (unsigned int i = 0; i < ARRAY_SIZE(endings); i++)
        if (cmdline_has(endings[i].word))
            endings[i].run();
    panic("no end=<word> on the command line");
}
