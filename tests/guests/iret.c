/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HYPERVISOR_iret within the kernel, and frames that the CPU refuses. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "iret";

/* What the code behind an iret found. */
static struct {
    uint64_t rsp, rflags, rax, rcx, r11;
} landed;
static uint64_t saved_rsp __attribute__((used));
/* Of a multicall in which the iret stands, if not 0. */
static uint64_t list_length __attribute__((used));
static multicall_entry_t *list __attribute__((used));
static uint8_t other_stack[PAGE_SIZE] PAGE_ALIGNED;

/* Go to `landing` through this frame; landed tells what came of it. */
static void iret_through(struct iret_context *context)
{
    __asm__ volatile(
        "push %%rbx\n\tpush %%rbp\n\tmov %%rsp, saved_rsp(%%rip)\n\t"
        "lea 1f(%%rip), %%rax\n\tmov %%rax, 32(%0)\n\t"
        "mov %0, %%rsp\n\tmov $23, %%eax\n\t"
        "mov list(%%rip), %%rdi\n\tmov list_length(%%rip), %%rsi\n\t"
        "test %%rsi, %%rsi\n\tjz 2f\n\tmov $13, %%eax\n"
        "2:\tsyscall\n\tud2\n"
        "1:\tmov %%rax, %1\n\tmov %%rsp, %2\n\tmov %%rcx, %3\n\t"
        "mov %%r11, %4\n\tpushfq\n\tpop %5\n\t"
        "mov saved_rsp(%%rip), %%rsp\n\tpop %%rbp\n\tpop %%rbx"
        : "+D"(context)
        : "m"(landed.rax), "m"(landed.rsp), "m"(landed.rcx), "m"(landed.r11),
          "m"(landed.rflags)
        : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13",
          "r14", "r15", "memory", "cc");
}

static struct iret_context kernel_frame(void)
{
    return (struct iret_context){.rax = 0xa1a1,
                                 .r11 = 0x1111,
                                 .rcx = 0xc1c1,
                                 .cs = FLAT_KERNEL_CS & ~3U,
                                 .rflags = RFLAGS_IF,
                                 .rsp = (uint64_t)other_stack + PAGE_SIZE - 64,
                                 .ss = FLAT_KERNEL_SS};
}

static void test_kernel(void)
{
    struct iret_context c = kernel_frame();

    events_disable();
    iret_through(&c);
    check_eq("rsp", landed.rsp, c.rsp);
    check_eq("rax", landed.rax, 0xa1a1);
    check_eq("rcx", landed.rcx, 0xc1c1);
    check_eq("r11", landed.r11, 0x1111);
    check_eq("IF set: events on", vcpu_info()->evtchn_upcall_mask, 0);
    c.rflags = RFLAGS_CF | RFLAGS_DF;
    iret_through(&c);
    __asm__ volatile("cld");
    check_eq("IF clear: events off", vcpu_info()->evtchn_upcall_mask, 1);
    check_eq("flags", landed.rflags & (RFLAGS_CF | RFLAGS_DF),
             RFLAGS_CF | RFLAGS_DF);
    c.rflags = RFLAGS_IF | RFLAGS_IOPL;
    iret_through(&c);
    check_eq("IOPL is not for the asking", landed.rflags & RFLAGS_IOPL, 0);
    c.flags = VGCF_in_syscall;
    c.rflags = 0;
    iret_through(&c);
    check_eq("VGCF_in_syscall: rax all the same", landed.rax, 0xa1a1);
    check_eq("VGCF_in_syscall: rsp", landed.rsp, c.rsp);
    c.flags = 0;
}

/* As the last call of a multicall: the rest of the list is left alone. */
static void test_in_multicall(void)
{
    struct iret_context c = kernel_frame();
    static multicall_entry_t calls[3];

    calls[0].op = __HYPERVISOR_xen_version;
    calls[0].args[0] = XENVER_pagesize;
    calls[1].op = __HYPERVISOR_iret;
    calls[2] = calls[0];
    calls[2].result = 4711;
    list = calls;
    list_length = 3;
    iret_through(&c);
    list_length = 0;
    check_eq("in a multicall: rax", landed.rax, 0xa1a1);
    check_eq("in a multicall: rsp", landed.rsp, c.rsp);
    check_eq("what was before it is done", calls[0].result, PAGE_SIZE);
    check_eq("what is behind it is not", calls[2].result, 4711);
}

/* A pending event is taken on the way out of an iret that turns them on. */
static void test_pending(void)
{
    struct iret_context c = kernel_frame();
    evtchn_port_t port = (evtchn_port_t)bind_ipi();

    event_count[port] = 0;
    evtchn_unmask(port);
    events_disable();
    evtchn_send(port);
    c.rflags = 0;
    iret_through(&c);
    check_eq("events off: none", event_count[port], 0);
    c.rflags = RFLAGS_IF;
    iret_through(&c);
    check_eq("events on: the upcall", event_count[port], 1);
    events_disable();
    evtchn_close(port);
}

static unsigned int refused_entry;
static uint64_t refused_rip;

/* Back to where iret_through() would have landed. */
static bool refused_hook(struct regs *r)
{
    refused_entry = (unsigned int)r->entry;
    refused_rip = r->rip;
    r->rip = caught.rip;
    r->cs = FLAT_KERNEL_CS & ~3U;
    r->ss = FLAT_KERNEL_SS;
    r->rsp = (uint64_t)other_stack + PAGE_SIZE - 64;
    r->rflags = RFLAGS_IF;
    return true;
}

/* Xen tells either by the failsafe callback or as the exception itself. */
static void refuse(const char *name, struct iret_context *c)
{
    refused_entry = 0;
    trap_hook = refused_hook;
    __asm__ volatile(
        "push %%rbx\n\tpush %%rbp\n\tmov %%rsp, saved_rsp(%%rip)\n\t"
        "lea 1f(%%rip), %%rax\n\tmov %%rax, %1\n\t"
        "mov %0, %%rsp\n\tmov $23, %%eax\n\tsyscall\n\tud2\n"
        "1:\tmov saved_rsp(%%rip), %%rsp\n\tpop %%rbp\n\tpop %%rbx"
        :
        : "D"(c), "m"(caught.rip)
        : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13",
          "r14", "r15", "memory", "cc");
    trap_hook = NULL;
    check(refused_entry == ENTRY_FAILSAFE || refused_entry == X86_GP ||
              refused_entry == X86_NP || refused_entry == X86_SS ||
              refused_entry == X86_PF,
          name, "entry %u", refused_entry);
}

static void test_refused(void)
{
    struct iret_context c = kernel_frame();

    c.rip = 0xdead000000000000;
    refuse("rip is not canonical", &c);
    if (software_kvm()) {
        skip("selectors that do not exist",
             "a software KVM does not look at them");
        return;
    }
    c.rip = (uint64_t)image_start;
    c.cs = 0x1230;
    refuse("no such code segment", &c);
    c = kernel_frame();
    c.rip = (uint64_t)image_start;
    c.ss = 0x1230;
    refuse("no such stack segment", &c);
}

void guest_main(void)
{
    events_init();
    CALL(stack_switch, FLAT_KERNEL_SS, kernel_stack + sizeof(kernel_stack));
    test_kernel();
    test_in_multicall();
    test_pending();
    test_refused();
}
