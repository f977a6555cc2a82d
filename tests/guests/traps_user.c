/* SPDX-License-Identifier: GPL-2.0-or-later */
/* User mode: going there, SYSCALL, exceptions, int n, and coming back. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "traps_user";

USER static uint64_t user_nop(uint64_t arg)
{
    return arg + 1;
}

USER static uint64_t user_ud2(void)
{
    __asm__ volatile("ud2");
    return 0;
}

USER static uint64_t user_int3(void)
{
    __asm__ volatile("int3");
    return 0;
}

USER static uint64_t user_int80(uint64_t arg)
{
    __asm__ volatile("int $0x80" : : "a"(arg));
    return 0;
}

USER static uint64_t user_int21(void)
{
    __asm__ volatile("int $0x21");
    return 0;
}

USER static uint64_t user_divide(uint64_t arg)
{
    uint64_t q, r;

    __asm__ volatile("divq %4"
                     : "=a"(q), "=d"(r)
                     : "a"(1UL), "d"(0UL), "r"(arg));
    return q + r;
}

USER static uint64_t user_read(uint64_t address)
{
    return *(volatile uint8_t *)address;
}

USER static uint64_t user_write(uint64_t address)
{
    *(volatile uint8_t *)address = 1;
    return 0;
}

USER static uint64_t user_jump(uint64_t address)
{
    __asm__ volatile("jmp *%0" : : "r"(address));
    return 0;
}

USER static uint64_t user_cli(void)
{
    __asm__ volatile("cli");
    return 0;
}

USER static uint64_t user_hlt(void)
{
    __asm__ volatile("hlt");
    return 0;
}

USER static uint64_t user_out(void)
{
    __asm__ volatile("outb %%al, $0xe0" : : "a"(1));
    return 0;
}

USER static uint64_t user_rdmsr(void)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0xc0000080));
    return low;
}

USER static uint64_t user_mov_cr3(void)
{
    uint64_t cr3;

    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    return cr3;
}

/* A syscall whose number is the argument; returns what the kernel put. */
USER static uint64_t user_syscall(uint64_t nr)
{
    uint64_t rc;

    __asm__ volatile("syscall" : "=a"(rc) : "a"(nr) : "rcx", "r11", "memory");
    return rc;
}

USER static uint64_t user_registers(void)
{
    __asm__ volatile("mov $0x0101, %%ebx\n\tmov $0x0202, %%edx\n\t"
                     "mov $0x0303, %%esi\n\tmov $0x0404, %%r8d\n\t"
                     "mov $0x0505, %%r9d\n\tmov $0x0606, %%r10d\n\t"
                     "mov $0x0707, %%r12d\n\tmov $0x0808, %%r15d\n\t"
                     "mov $0x99, %%eax\n\tstd\n\tsyscall\n\tcld" ::
                         : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10",
                           "r11", "r12", "r15", "memory", "cc");
    return 0;
}

/* With AC set an access that is not aligned is a fault at ring 3. */
USER static uint64_t user_unaligned(uint64_t address)
{
    uint64_t got;

    __asm__ volatile("pushfq\n\torq $0x40000, (%%rsp)\n\tpopfq\n\t"
                     "movq 1(%1), %0\n\t"
                     "pushfq\n\tandq $~0x40000, (%%rsp)\n\tpopfq"
                     : "=r"(got)
                     : "r"(address)
                     : "cc", "memory");
    return got;
}

USER static uint64_t user_stack_fault(uint64_t address)
{
    uint64_t got;

    __asm__ volatile("push %%rbp\n\tmov %1, %%rbp\n\tmov (%%rbp), %0\n\t"
                     "pop %%rbp"
                     : "=r"(got)
                     : "r"(address));
    return got;
}

USER static uint64_t user_x87(void)
{
    uint16_t control = 0x33b; /* all masked but division by zero */

    __asm__ volatile("fninit\n\tfldcw %0\n\tfld1\n\tfldz\n\tfdivrp\n\t"
                     "fwait"
                     :
                     : "m"(control));
    return 0;
}

USER static uint64_t user_sse(void)
{
    uint32_t control = 0x1d80; /* likewise */

    __asm__ volatile("ldmxcsr %0\n\txorps %%xmm0, %%xmm0\n\t"
                     "mov $1, %%eax\n\tcvtsi2ss %%eax, %%xmm1\n\t"
                     "divss %%xmm0, %%xmm1"
                     :
                     : "m"(control)
                     : "rax");
    return 0;
}

static void expect_user(const char *name, void *fn, uint64_t arg,
                        unsigned int vector, uint64_t error, uint64_t rip)
{
    uint64_t got = user_run(fn, arg);

    check(got == ~0UL && caught.taken && caught.vector == vector &&
              caught.error == error && (!rip || caught.rip == rip) &&
              caught.cs == FLAT_USER_CS,
          name, "vector %u error 0x%lx rip 0x%lx cs 0x%x, result 0x%lx",
          caught.vector, caught.error, caught.rip, caught.cs, got);
}

static void test_exceptions(void)
{
    expect_user("#UD", user_ud2, 0, X86_UD, 0, user_va(user_ud2));
    expect_user("#BP", user_int3, 0, X86_BP, 0, user_va(user_int3) + 1);
    expect_user("#DE", user_divide, 0, X86_DE, 0, 0);
    expect_user("#PF: read, not present", user_read, 0x5000, X86_PF, PF_U, 0);
    check_eq("#PF: cr2", caught.cr2, 0x5000);
    expect_user("#PF: write, not present", user_write, 0x6001, X86_PF,
                PF_U | PF_W, 0);
    expect_user("#PF: write to read-only text", user_write, USER_CODE_VA,
                X86_PF, PF_U | PF_W | PF_P, 0);
    expect_user("#GP: read, not canonical", user_read, 0xdead000000000000,
                X86_GP, 0, 0);
    user_run(user_jump, 0x7000);
    check(caught.vector == X86_PF && (caught.error & ~16UL) == PF_U &&
              caught.cr2 == 0x7000 && caught.rip == 0x7000,
          "#PF: jump to nowhere", "vector %u error 0x%lx", caught.vector,
          caught.error);
    expect_user("#GP: cli", user_cli, 0, X86_GP, 0, user_va(user_cli));
    expect_user("#GP: hlt", user_hlt, 0, X86_GP, 0, user_va(user_hlt));
    expect_user("#GP: out", user_out, 0, X86_GP, 0, 0);
    expect_user("#GP: rdmsr", user_rdmsr, 0, X86_GP, 0, 0);
    expect_user("#GP: mov from cr3", user_mov_cr3, 0, X86_GP, 0, 0);
}

static void test_alignment_check(void)
{
    uint64_t flags;

    expect_user("#AC", user_unaligned, USER_DATA_VA, X86_AC, 0, 0);
    check_eq("#AC: its flag is in the frame", caught.rflags & RFLAGS_AC,
             RFLAGS_AC);
    __asm__ volatile("pushfq; pop %0" : "=r"(flags));
    check_eq("#AC: and not in the handler", flags & RFLAGS_AC, 0);
}

static void test_rarer_exceptions(void)
{
    uint32_t control = 0x1f80;

    if (cmdline_has("lacks=#AC"))
        skip("#AC", "this processor raises none");
    else
        test_alignment_check();
    if (cmdline_has("lacks=#SS"))
        skip("#SS", "this processor raises #GP instead");
    else
        expect_user("#SS", user_stack_fault, 0xdead000000000000, X86_SS, 0, 0);
    expect_user("#MF", user_x87, 0, X86_MF, 0, 0);
    __asm__ volatile("fninit");
    if (cmdline_has("lacks=#XM"))
        skip("#XM", "this processor raises none");
    else
        expect_user("#XM", user_sse, 0, X86_XM, 0, 0);
    __asm__ volatile("ldmxcsr %0" : : "m"(control));
}

static void test_kernel_is_out_of_reach(void)
{
    user_run(user_read, (uint64_t)image_start);
    check(caught.taken && caught.vector == X86_PF && (caught.error & PF_U),
          "kernel memory is not readable", "vector %u error 0x%lx",
          caught.vector, caught.error);
    user_run(user_write, (uint64_t)kernel_stack);
    check(caught.taken && caught.vector == X86_PF && (caught.error & PF_U),
          "kernel stack is not writable", "vector %u error 0x%lx",
          caught.vector, caught.error);
    user_run(user_read, (uint64_t)XEN_POINTER);
    check(caught.taken && caught.vector == X86_PF, "nor is Xen's hole",
          "vector %u error 0x%lx", caught.vector, caught.error);
    user_run(user_jump, (uint64_t)image_start);
    check(caught.taken && caught.vector == X86_PF, "nor can it be executed",
          "vector %u error 0x%lx", caught.vector, caught.error);
}

static void test_int_n(void)
{
    expect_user("int 0x80", user_int80, 5, 0x80, 0, 0);
    check_eq("int 0x80: rax", caught.regs.rax, 5);
    expect_user("int 0x21 without permission", user_int21, 0, X86_GP,
                0x21 * 8 + 2, user_va(user_int21));
    trap_gate(0x21, 3, false);
    expect_user("int 0x21 through its gate", user_int21, 0, 0x21, 0,
                user_va(user_int21) + 2);
    trap_gate(0x21, 1, false);
    expect_user("int 0x21 at DPL 1", user_int21, 0, X86_GP, 0x21 * 8 + 2, 0);
    /* Xen does not look at the DPL of #BP (traps.c, do_int3). */
    trap_gate(X86_BP, 0, false);
    expect_user("#BP whatever its gate's DPL", user_int3, 0, X86_BP, 0, 0);
    trap_gate(X86_BP, 3, false);
}

static void test_frame(void)
{
    events_enable();
    user_run(user_ud2, 0);
    check_eq("frame: ss", caught.ss, FLAT_USER_SS);
    check_eq("frame: rsp", caught.rsp, USER_STACK_TOP);
    check_eq("frame: IF set", caught.rflags & RFLAGS_IF, RFLAGS_IF);
    check_eq("frame: saved upcall mask", caught.saved_mask, 0);
    check_eq("frame at the top of the registered stack",
             caught.handler_rsp + 40,
             (uint64_t)kernel_stack + sizeof(kernel_stack));
    check_eq("iret without VGCF_in_syscall: rcx", caught.regs.rcx,
             0x1c1c1c1c1c1c1c1c);
    check_eq("iret without VGCF_in_syscall: r11", caught.regs.r11,
             0x1111111111111111);
    events_disable();
}

/* The last system call but USER_EXIT, and the mask inside its handler. */
static struct regs call;
static uint8_t call_mask;

static bool answer_hook(struct regs *r)
{
    if (r->rax == USER_EXIT)
        return false;
    call = *r;
    call_mask = vcpu_info()->evtchn_upcall_mask;
    r->rax = r->rax * 2;
    return true;
}

static void test_syscall(void)
{
    uint64_t flags, got;

    syscall_hook = answer_hook;
    events_enable();
    got = user_run(user_syscall, 0x1234);
    check_eq("syscall: the kernel's answer", got, 0x2468);
    check_eq("syscall: callback masks events (its flag)", call_mask, 1);
    check_eq("syscall: they were on in user mode", call.cs >> 32, 0);
    check_eq("iret unmasked them again", caught.saved_mask, 0);
    user_run(user_registers, 0);
    check(call.rbx == 0x101 && call.rdx == 0x202 && call.rsi == 0x303 &&
              call.r8 == 0x404 && call.r9 == 0x505 && call.r10 == 0x606 &&
              call.r12 == 0x707 && call.r15 == 0x808,
          "syscall: registers", "rbx 0x%lx r10 0x%lx", call.rbx, call.r10);
    check_eq("syscall: rcx is the return address", call.rcx, call.rip);
    check((call.rflags & RFLAGS_DF) && (call.rflags & RFLAGS_IF),
          "syscall: flags in the frame", "0x%lx", call.rflags);
    check_eq("syscall: cs", (uint16_t)call.cs, FLAT_USER_CS);
    check_eq("syscall: ss", (uint16_t)call.ss, FLAT_USER_SS);
    __asm__ volatile("pushfq; pop %0" : "=r"(flags));
    check_eq("DF is clear in the kernel", flags & RFLAGS_DF, 0);
    syscall_hook = NULL;
    user_iret_flags = VGCF_in_syscall;
    check_eq("iret with VGCF_in_syscall", user_run(user_nop, 41), 42);
    user_iret_flags = 0;
    events_disable();
}

static unsigned int user_steps;

static bool step_hook(struct regs *r)
{
    if (r->entry != X86_DB || (r->cs & 3) != 3)
        return false;
    user_steps++;
    return true;
}

static void test_single_step(void)
{
    trap_hook = step_hook;
    user_rflags |= RFLAGS_TF;
    check_eq("result under TF", user_run(user_nop, 1), 2);
    user_rflags &= ~RFLAGS_TF;
    trap_hook = NULL;
    /* lea, ret, mov, mov; the step over syscall lands in the kernel. */
    check(user_steps >= 3 && user_steps <= 6, "single steps are counted",
          "%u steps", user_steps);
    check_eq("no TF left behind", user_run(user_nop, 1), 2);
}

/*
 * Each step's #DB, and the #PF of the fetch, arrive with rip at an address of
 * the hypervisor's: they are the process's all the same.
 */
static void test_single_step_into_xen(void)
{
    static const uint64_t places[] = {
        0xffff808000000000, 0xffff808000010000, 0xffff808000010040,
        0xffff808000300000, 0xffff818000405100,
    };
    unsigned int right = 0;

    trap_hook = step_hook;
    user_rflags |= RFLAGS_TF;
    for (unsigned int i = 0; i < ARRAY_SIZE(places); i++) {
        user_run(user_jump, places[i]);
        right += caught.taken && caught.vector == X86_PF &&
                 caught.rip == places[i] && caught.cs == FLAT_USER_CS &&
                 (caught.error & ~(PF_P | PF_I)) == PF_U;
    }
    user_rflags &= ~RFLAGS_TF;
    trap_hook = NULL;
    check_eq("stepping into Xen's hole is the process's #PF", right,
             ARRAY_SIZE(places));
}

/* --- tables that are not the user's -------------------------------------------- */

#define OTHER_SLOT (1UL << 39) /* from the user's text to the next L4 entry */

/* Xen's own CPUID: its leaves begin there. */
USER static uint64_t user_xen_cpuid(void)
{
    uint32_t eax = 0x40000000, ebx, ecx = 0, edx;

    __asm__ volatile("ud2; .ascii \"xen\"; cpuid"
                     : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ebx;
}

static uint64_t *table_below(uint64_t *above, uint64_t va, int level)
{
    uint64_t *table = page_alloc();

    if (page_protect(table, false) ||
        mmu_write(&above[va >> (12 + 9 * (level - 1)) & 511],
                  maddr_of(table) | PTE_USER, MMU_NORMAL_PT_UPDATE))
        panic("a table");
    return table;
}

/*
 * The kernel's root has the user's text by tables of its own, whose last entry
 * lacks the user bit: whoever reads the instruction there goes by that one.
 */
static void test_tables_of_the_kernels(void)
{
    uint64_t va = USER_CODE_VA + OTHER_SLOT, text = maddr_of(user_page_text);
    uint64_t *table = pte_of((void *)va, 4);
    unsigned int slot = va >> 39 & 511;

    if (mmu_write(&user_l4[slot], user_l4[slot - 1], MMU_NORMAL_PT_UPDATE))
        panic("the user's root");
    table -= slot;
    for (int level = 4; level > 1; level--)
        table = table_below(table, va, level);
    table[va >> 12 & 511] = text | PTE_P | PTE_A;
    check_eq("an instruction that the kernel maps without the user bit",
             user_run((char *)user_xen_cpuid + OTHER_SLOT, 0), 0x566e6558);
}

void guest_main(void)
{
    events_init();
    user_init();
    check_eq("there and back", user_run(user_nop, 41), 42);
    check_eq("and again", user_run(user_nop, 1), 2);
    test_exceptions();
    test_rarer_exceptions();
    test_kernel_is_out_of_reach();
    test_int_n();
    test_frame();
    test_syscall();
    test_single_step();
    test_single_step_into_xen();
    test_tables_of_the_kernels();
}
