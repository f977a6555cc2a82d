/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exceptions raised by the guest's kernel, and the frames they arrive with. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "traps_kernel";

static uint8_t stack_page[PAGE_SIZE] PAGE_ALIGNED;

static void test_vectors(void)
{
    uint64_t zero = 0;

    PROBE_OP("divq %0", : : "r"(zero), "a"(1UL), "d"(0UL));
    check_trap("#DE", X86_DE, 0);
    PROBE("ud2");
    check_trap("#UD", X86_UD, 0);
    PROBE("int3");
    check(caught.taken && caught.vector == X86_BP &&
              caught.rip == probe_rip + 1,
          "#BP: rip is behind int3", "vector %u at +%ld", caught.vector,
          (long)(caught.rip - probe_rip));
    PROBE(".byte 0xf1");
    check(caught.taken && caught.vector == X86_DB, "#DB: int1", "vector %u",
          caught.vector);
    if (software_kvm())
        skip("#DB: rip is behind int1", "a software KVM leaves rip on it");
    else
        check_eq("#DB: rip is behind int1", caught.rip, probe_rip + 1);
    PROBE_OP("movq (%1), %0", : "=&r"(zero) : "r"(0xdead000000000000UL));
    check_trap("#GP: not canonical", X86_GP, 0);
}

static void test_int_n(void)
{
    PROBE("int $0x21");
    check_trap("#GP: int 0x21 without a gate", X86_GP, 0x21 * 8 + 2);
    PROBE("int $14");
    check_trap("#GP: int 14 at DPL 0 from kernel", X86_GP, 14 * 8 + 2);
    trap_gate(0x21, 1, false);
    PROBE("int $0x21");
    check(caught.taken && caught.vector == 0x21 &&
              caught.rip == probe_rip + 2 && caught.error == 0,
          "int 0x21 through a DPL 1 gate", "vector %u at +%ld", caught.vector,
          (long)(caught.rip - probe_rip));
    PROBE("int $0x80");
    check(caught.taken && caught.vector == 0x80 && caught.rip == probe_rip + 2,
          "int 0x80 from kernel", "vector %u at +%ld", caught.vector,
          (long)(caught.rip - probe_rip));
    trap_gate(0x21, 0, false);
    PROBE("int $0x21");
    check_trap("#GP: int 0x21 at DPL 0", X86_GP, 0x21 * 8 + 2);
}

static void test_page_faults(void)
{
    uint8_t *page = page_alloc();
    uint64_t byte;

    PROBE_OP("movb (%1), %b0", : "=&q"(byte) : "r"(BAD_POINTER));
    check_trap("#PF: read, not present", X86_PF, 0);
    check_eq("#PF: cr2", caught.cr2, (uint64_t)BAD_POINTER);
    PROBE_OP("movb $1, 5(%0)", : : "r"(BAD_POINTER));
    check_trap("#PF: write, not present", X86_PF, PF_W);
    check_eq("#PF: cr2 of a write", caught.cr2, (uint64_t)BAD_POINTER + 5);
    if (page_protect(page, false))
        panic("page_protect");
    PROBE_OP("movb $1, 7(%0)", : : "r"(page));
    check_trap("#PF: write to a read-only page", X86_PF, PF_W | PF_P);
    check_eq("#PF: its cr2", caught.cr2, (uint64_t)page + 7);
    PROBE_OP("movb 7(%1), %b0", : "=&q"(byte) : "r"(page));
    check(!caught.taken, "reading it is fine", "vector %u", caught.vector);
    page_protect(page, true);
    PROBE_OP("movb $1, 7(%0)", : : "r"(page));
    check(!caught.taken && page[7] == 1, "writable again", "vector %u",
          caught.vector);
    PROBE_OP("movb (%1), %b0", : "=&q"(byte) : "r"(XEN_POINTER));
    check(caught.taken && caught.vector == X86_PF &&
              caught.cr2 == (uint64_t)XEN_POINTER,
          "#PF: Xen's hole", "vector %u cr2 0x%lx", caught.vector, caught.cr2);
}

static bool fetch_hook(struct regs *r)
{
    caught.taken = true;
    caught.vector = (unsigned int)r->entry;
    caught.error = r->error;
    caught.rip = r->rip;
    caught.cr2 = vcpu_info()->arch.cr2;
    r->rip = *(uint64_t *)r->rsp;
    r->rsp += 8;
    return true;
}

static void test_fetch(void)
{
    trap_hook = fetch_hook;
    caught.taken = false;
    ((void (*)(void))BAD_POINTER)();
    trap_hook = NULL;
    check(caught.vector == X86_PF && caught.cr2 == (uint64_t)BAD_POINTER &&
              caught.rip == (uint64_t)BAD_POINTER &&
              (caught.error & ~(uint64_t)PF_I) == 0,
          "#PF: jump to nowhere", "vector %u error 0x%lx cr2 0x%lx",
          caught.vector, caught.error, caught.cr2);
}

static void test_frame(void)
{
    uint64_t sp;

    __asm__ volatile("mov %%rsp, %0" : "=r"(sp));
    events_disable();
    PROBE("ud2");
    check_eq("frame: cs names the kernel", caught.cs, FLAT_KERNEL_CS & ~3);
    check((caught.ss & ~3) == (FLAT_KERNEL_SS & ~3), "frame: ss", "0x%x",
          caught.ss);
    check(caught.rsp == sp, "frame: rsp", "0x%lx, want 0x%lx", caught.rsp, sp);
    check_eq("frame: IF clear when events are masked",
             caught.rflags & RFLAGS_IF, 0);
    check_eq("frame: saved upcall mask", caught.saved_mask, 1);
    check_eq("frame: IOPL is 0", caught.rflags & RFLAGS_IOPL, 0);
    /* rip is the first word of the hardware's part; the frame ends aligned. */
    check_eq("frame: top is 16-byte aligned", (caught.handler_rsp + 40) % 16,
             0);
    events_enable();
    PROBE("ud2");
    check_eq("frame: IF set when events are on", caught.rflags & RFLAGS_IF,
             RFLAGS_IF);
    check_eq("frame: saved upcall mask 0", caught.saved_mask, 0);
    check_eq("trap gate leaves the mask alone", caught.handler_mask, 0);
    check_eq("iret leaves it at 0", vcpu_info()->evtchn_upcall_mask, 0);
    trap_gate(X86_UD, 0, true);
    PROBE("ud2");
    check_eq("interrupt gate masks events", caught.handler_mask, 1);
    check_eq("interrupt gate: saved mask", caught.saved_mask, 0);
    check_eq("iret puts the mask back", vcpu_info()->evtchn_upcall_mask, 0);
    trap_gate(X86_UD, 0, false);
    events_disable();
}

static void test_registers(void)
{
    struct regs *r = &caught.regs;

    caught.taken = false;
    __asm__ volatile("mov $1, %%ecx\n\tmov $2, %%edx\n\tmov $3, %%esi\n\t"
                     "mov $4, %%edi\n\tmov $5, %%r8d\n\tmov $6, %%r9d\n\t"
                     "mov $7, %%r10d\n\tmov $8, %%r11d\n\tmov $9, %%r12d\n\t"
                     "mov $10, %%r13d\n\tmov $11, %%r14d\n\tmov $12, %%r15d\n\t"
                     "mov $13, %%ebx\n\tmov $14, %%eax\n\t"
                     "7: ud2\n8: nop\n\t"
                     ".pushsection .probes, \"a\"\n\t.quad 7b, 8b\n\t"
                     ".popsection" ::
                         : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9",
                           "r10", "r11", "r12", "r13", "r14", "r15", "memory",
                           "cc");
    check(r->rcx == 1 && r->rdx == 2 && r->rsi == 3 && r->rdi == 4 &&
              r->r8 == 5 && r->r9 == 6 && r->r10 == 7 && r->r11 == 8 &&
              r->r12 == 9 && r->r13 == 10 && r->r14 == 11 && r->r15 == 12 &&
              r->rbx == 13 && r->rax == 14,
          "frame: registers", "rcx %lu r11 %lu rax %lu", r->rcx, r->r11,
          r->rax);
}

static unsigned int steps;
static uint64_t step_first, step_last;

static bool step_hook(struct regs *r)
{
    if (r->entry != X86_DB)
        return false;
    if (!steps++)
        step_first = r->rip;
    step_last = r->rip;
    if (steps > 100)
        r->rflags &= ~RFLAGS_TF;
    return true;
}

static void test_single_step(void)
{
    trap_hook = step_hook;
    /* TF set by popf: the first trap comes after the instruction behind it. */
    __asm__ volatile("pushfq\n\tpushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\t"
                     "nop\n\tnop\n\tnop\n\tnop\n\tpopfq\n\tnop" ::
                         : "memory", "cc");
    trap_hook = NULL;
    /* nop x4 and the popf that ends it: at least 5, at most 6. */
    check(steps == 5 || steps == 6, "single steps are counted", "%u steps",
          steps);
    check(step_last > step_first && step_last - step_first <= 6,
          "single steps advance", "0x%lx to 0x%lx", step_first, step_last);
}

static void test_stack_of_handler(void)
{
    uint8_t *top = stack_page + PAGE_SIZE - 24;
    uint64_t saved;

    /* The frame goes below the interrupted rsp, aligned down. */
    __asm__ volatile("mov %%rsp, %0\n\tmov %1, %%rsp\n\t"
                     "7: ud2\n8: nop\n\tmov %0, %%rsp\n\t"
                     ".pushsection .probes, \"a\"\n\t.quad 7b, 8b\n\t"
                     ".popsection"
                     : "=&r"(saved)
                     : "r"(top)
                     : "memory", "cc");
    check_eq("frame below the interrupted stack", caught.handler_rsp,
             ((uint64_t)top & ~15UL) - 40);
    check_eq("which it names", caught.rsp, (uint64_t)top);
}

void guest_main(void)
{
    events_init();
    test_vectors();
    test_int_n();
    test_page_faults();
    test_fetch();
    test_frame();
    test_registers();
    test_single_step();
    test_stack_of_handler();
}
