/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 32-bit user space: its exceptions, its ways into the kernel with and without
 * callbacks for them, and code segments that begin elsewhere than at 0.
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "compat";

USER32(user32_int80, "int $0x80");
USER32(user32_int80_prefixed, ".byte 0x3e, 0x66, 0xcd, 0x80");
USER32(user32_int21, "int $0x21");
USER32(user32_int21_prefixed, ".byte 0x2e, 0x2e, 0xcd, 0x21");
USER32(user32_int3, "int3");
USER32(user32_into, "movb $0x7f, %al; incb %al; into");
USER32(user32_ud2, "ud2");
USER32(user32_read, "movl (%eax), %eax; int $0x80");
USER32(user32_cli, "cli; int $0x80");
USER32(user32_hlt, "hlt");
USER32(user32_in, "movl $0x12345678, %eax; movl $0x60, %edx; .byte 0xed; "
                  "int $0x80");
USER32(user32_in66, "movl $0x12345678, %eax; .byte 0x66, 0xe5, 0x60; "
                    "int $0x80");
USER32(user32_forced_cpuid, "xorl %eax, %eax; xorl %ecx, %ecx; "
                            "ud2; .ascii \"xen\"; cpuid; int $0x80");
USER32(user32_syscall, "std; syscall; int $0x80");
USER32(user32_syscall_esp, "movl %eax, %esp; syscall; int $0x80");
USER32(user32_sysenter, "sysenter; int $0x80");
USER32(user32_sysenter_flags, "pushfl; orl $0x44400, (%esp); popfl; sysenter; "
                              "int $0x80");
USER32(user32_nops, "nop; nop; int $0x80");
USER32(user32_to_64, "pushl $0xe033; call 1f; 1: addl $(2f - 1b), (%esp); "
                     "lret; 2: .code64; movl $0x7e57, %eax; "
                     "movl $0x64, %edi; syscall; .code32");
/* 16 bits: mov $0x5678, %ax; mov $0x60, %dx; in %dx, %ax; int $0x80 */
USER32(user16_in, ".byte 0xb8, 0x78, 0x56, 0xba, 0x60, 0, 0xed, 0xcd, 0x80");
USER32(user16_in66, ".byte 0xba, 0x60, 0, 0x66, 0xed, 0xcd, 0x80");

/* Far return to 32 bits. */
USER static uint64_t user_to_32(uint64_t rip)
{
    __asm__ volatile("pushq $0xe023\n\tpushq %0\n\tlretq" : : "r"(rip));
    return 0;
}

USER static uint64_t user_syscall_rsp(uint64_t rsp)
{
    __asm__ volatile("movq %0, %%rsp\n\tsyscall" : : "r"(rsp), "a"(0x33));
    return 0;
}

static bool is_intel, has_syscall32, has_sysenter;

static void find_vendor(void)
{
    uint32_t eax = 0, ebx, ecx = 0, edx;

    __asm__ volatile("ud2; .ascii \"xen\"; cpuid"
                     : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    is_intel = ebx == 0x756e6547; /* "Genu" */
    has_syscall32 = !is_intel && !software_kvm();
    has_sysenter = is_intel && !software_kvm();
}

static void check_caught(const char *name, unsigned int vector, uint64_t error,
                         uint64_t rip, uint16_t cs)
{
    check(caught.taken && caught.vector == vector && caught.error == error &&
              caught.rip == rip && caught.cs == cs,
          name, "vector %u error 0x%lx rip 0x%lx cs 0x%x", caught.vector,
          caught.error, caught.rip, caught.cs);
}

static void expect(const char *name, const uint8_t *code, uint64_t arg,
                   unsigned int vector, uint64_t error, unsigned int offset)
{
    user32_run(code, arg);
    check_caught(name, vector, error, user32_va(code) + offset, FLAT_USER_CS32);
}

static void test_exceptions(void)
{
    expect("int 0x80", user32_int80, 7, 0x80, 0, 2);
    check_eq("int 0x80: eax", caught.regs.rax, 7);
    check_eq("int 0x80: esp", caught.rsp, USER32_STACK_TOP);
    check_eq("int 0x80: ss", caught.ss, FLAT_USER_SS32);
    expect("int 0x80 with prefixes", user32_int80_prefixed, 7, 0x80, 0, 4);
    expect("#UD", user32_ud2, 0, X86_UD, 0, 0);
    expect("#BP", user32_int3, 0, X86_BP, 0, 1);
    expect("#OF", user32_into, 0, X86_OF, 0, 5);
    expect("a read", user32_read, USER32_DATA_VA, 0x80, 0, 4);
    expect("#PF", user32_read, 0x5000, X86_PF, PF_U, 0);
    check_eq("#PF: cr2", caught.cr2, 0x5000);
    expect("#GP: cli", user32_cli, 0, X86_GP, 0, 0);
    expect("#GP: hlt", user32_hlt, 0, X86_GP, 0, 0);
    expect("forced cpuid", user32_forced_cpuid, 0, 0x80, 0, 13);
    check_eq("forced cpuid: vendor", (uint32_t)caught.regs.rbx == 0x756e6547,
             is_intel);
}

static void test_int21(void)
{
    expect("int 0x21 without permission", user32_int21, 0, X86_GP, 0x21 * 8 + 2,
           0);
    trap_gate(0x21, 3, false);
    expect("int 0x21 through its gate", user32_int21, 0, 0x21, 0, 2);
    expect("int 0x21 with prefixes", user32_int21_prefixed, 0, 0x21, 0, 4);
    trap_gate(0x21, 0, false);
}

/* --- the ways that callbacks answer ------------------------------------------- */

/* Flags at the callback's first instruction. */
static uint64_t live_flags __attribute__((used));

#define ENTRY_WITH_FLAGS(name, entry)                                      \
    extern const uint8_t name[];                                           \
    __asm__(".pushsection .text\n" #name                                   \
            ":\n\tpushfq\n\tpopq live_flags(%rip)\n\tjmp trap_stubs + 32 " \
            "* " #entry "\n\t.popsection")

ENTRY_WITH_FLAGS(syscall_entry, 257);
ENTRY_WITH_FLAGS(syscall32_entry, 259);
ENTRY_WITH_FLAGS(sysenter_entry, 260);

static int64_t reg(unsigned int type, const uint8_t *entry, unsigned int flags)
{
    struct callback_register r = {.type = (uint16_t)type,
                                  .flags = (uint16_t)flags,
                                  .address = (uint64_t)entry};

    return CALL(callback_op, CALLBACKOP_register, &r);
}

static int64_t unreg(unsigned int type)
{
    struct callback_unregister r = {.type = (uint16_t)type};

    return CALL(callback_op, CALLBACKOP_unregister, &r);
}

/* What a processor, or Xen, says to one that leads nowhere. */
static void expect_no_syscall(const char *name)
{
    expect(name, user32_syscall, 0, X86_UD, 0, 1);
    check_eq("syscall: #UD leaves DF", caught.rflags & RFLAGS_DF, RFLAGS_DF);
}

static void expect_no_sysenter(const char *name)
{
    user32_run(user32_sysenter, 0);
    if (has_sysenter)
        check_caught(name, X86_GP, 0, 0, 3);
    else /* #UD on AMD; emulators make it #GP */
        check_caught(name, caught.vector == X86_UD ? X86_UD : X86_GP, 0,
                     user32_va(user32_sysenter), FLAT_USER_CS32);
}

static void test_syscall(void)
{
    static const uint32_t stacks[] = {0, 4, 0x1000, 0xfffffff8, 0xffffffff};
    unsigned int right = 0;

    if (!has_syscall32) {
        expect_no_syscall("syscall is #UD here");
        return;
    }
    user32_run(user32_syscall, 0x1234);
    check_caught("syscall", ENTRY_SYSCALL32, 0, user32_va(user32_syscall) + 3,
                 FLAT_USER_CS32);
    check_eq("syscall: ss", caught.ss, FLAT_USER_SS32);
    check_eq("syscall: rsp", caught.rsp, USER32_STACK_TOP);
    check_eq("syscall: rax", caught.regs.rax, 0x1234);
    check_eq("syscall: rcx", caught.regs.rcx, caught.rip);
    check_eq("syscall: r11", caught.regs.r11 & (RFLAGS_DF | RFLAGS_IF),
             RFLAGS_DF | RFLAGS_IF);
    check_eq("syscall: flags in the frame",
             caught.rflags & (RFLAGS_DF | RFLAGS_IF), RFLAGS_DF | RFLAGS_IF);
    check_eq("syscall: DF is clear in the kernel", live_flags & RFLAGS_DF, 0);
    for (unsigned int i = 0; i < ARRAY_SIZE(stacks); i++) {
        user32_run(user32_syscall_esp, stacks[i]);
        right += caught.vector == ENTRY_SYSCALL32 && caught.rsp == stacks[i];
    }
    check_eq("syscall: any esp will do", right, ARRAY_SIZE(stacks));
}

static void test_sysenter(void)
{
    uint64_t flags = RFLAGS_DF | RFLAGS_NT | RFLAGS_AC;

    if (!has_sysenter) {
        expect_no_sysenter("sysenter leads nowhere here");
        return;
    }
    user32_run(user32_sysenter, 0x1234);
    check_caught("sysenter", ENTRY_SYSENTER, 0, 0, 3);
    check_eq("sysenter: ss", caught.ss, FLAT_USER_SS32);
    check_eq("sysenter: rsp", caught.rsp, 0);
    check_eq("sysenter: rax", caught.regs.rax, 0x1234);
    check_eq("sysenter: IF", caught.rflags & RFLAGS_IF, RFLAGS_IF);
    user32_run(user32_sysenter_flags, 0);
    check_caught("sysenter with all flags", ENTRY_SYSENTER, 0, 0, 3);
    check_eq("sysenter: flags in the frame", caught.rflags & flags, flags);
    check_eq("sysenter: NT and AC are clear in the kernel",
             live_flags & (RFLAGS_NT | RFLAGS_AC), 0);
}

static unsigned int nr_steps;

static bool step_hook(struct regs *r)
{
    if (r->entry != X86_DB || (r->cs & 3) != 3)
        return false;
    nr_steps++;
    return true;
}

static void step(const char *name, const uint8_t *code, unsigned int entry,
                 unsigned int steps)
{
    nr_steps = 0;
    trap_hook = step_hook;
    user_rflags |= RFLAGS_TF;
    user32_run(code, 0);
    user_rflags &= ~RFLAGS_TF;
    trap_hook = NULL;
    check(caught.vector == entry && nr_steps == steps &&
              caught.rflags & RFLAGS_TF,
          name, "vector %u, %u steps, flags 0x%lx", caught.vector, nr_steps,
          caught.rflags);
    check_eq("no TF in the kernel", live_flags & RFLAGS_TF, 0);
}

static void test_single_step(void)
{
    if (software_kvm()) {
        skip("single steps in 32 bits", "a software KVM may lose one");
        return;
    }
    step("stepping to int 0x80", user32_nops, 0x80, 2);
    if (has_syscall32)
        step("stepping over syscall", user32_syscall, ENTRY_SYSCALL32, 1);
    if (has_sysenter)
        step("stepping over sysenter", user32_sysenter, ENTRY_SYSENTER, 0);
}

static void test_masks(void)
{
    events_enable();
    reg(CALLBACKTYPE_syscall32, syscall32_entry, 0);
    reg(CALLBACKTYPE_sysenter, sysenter_entry, 0);
    user32_run(has_sysenter ? user32_sysenter : user32_syscall, 0);
    check_eq("events stay", caught.handler_mask, 0);
    reg(CALLBACKTYPE_syscall32, syscall32_entry, CALLBACKF_mask_events);
    reg(CALLBACKTYPE_sysenter, sysenter_entry, CALLBACKF_mask_events);
    user32_run(has_sysenter ? user32_sysenter : user32_syscall, 0);
    check_eq("events are masked", caught.handler_mask, 1);
    check_eq("the frame says that they were not", caught.saved_mask, 0);
    events_disable();
}

/* The kernel in 32 bits: no hypercall, but the callback's, as on Xen. */
static uint64_t kernel_rsp __attribute__((used)),
    kernel_rip __attribute__((used));
static struct regs kernel_call;

static bool kernel_hook(struct regs *r)
{
    if ((r->cs & 3) == 3)
        return false;
    kernel_call = *r;
    r->rip = kernel_rip;
    r->cs = FLAT_KERNEL_CS & ~3U;
    r->rsp = kernel_rsp;
    return true;
}

static void test_kernel(void)
{
    struct iret_context c = {.rip = user32_va(user32_syscall),
                             .cs = FLAT_KERNEL_CS32 & ~3U,
                             .rflags = RFLAGS_IF,
                             .rsp = USER32_STACK_TOP - 0x100,
                             .ss = FLAT_KERNEL_SS};

    if (!has_syscall32)
        return;
    trap_hook = kernel_hook;
    __asm__ volatile(
        "push %%rbx\n\tpush %%rbp\n\tmov %%rsp, kernel_rsp(%%rip)\n\t"
        "lea 1f(%%rip), %%rax\n\tmov %%rax, kernel_rip(%%rip)\n\t"
        "mov %0, %%rsp\n\tmov $23, %%eax\n\tsyscall\n\tud2\n"
        "1:\tcld\n\tpop %%rbp\n\tpop %%rbx"
        :
        : "D"(&c)
        : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13",
          "r14", "r15", "memory", "cc");
    trap_hook = NULL;
    events_disable();
    check(kernel_call.entry == ENTRY_SYSCALL32 &&
              (uint16_t)kernel_call.cs == (FLAT_USER_CS32 & ~3U) &&
              kernel_call.rip == user32_va(user32_syscall) + 3 &&
              kernel_call.rsp == c.rsp,
          "syscall of the kernel in 32 bits",
          "entry %lu rip 0x%lx cs 0x%lx rsp 0x%lx", kernel_call.entry,
          kernel_call.rip, kernel_call.cs, kernel_call.rsp);
}

static void test_callbacks(void)
{
    int64_t rc = software_kvm() ? -XEN_ENOSYS : 0;

    expect_no_syscall("syscall without a callback");
    expect_no_sysenter("sysenter without a callback");
    check_rc("register syscall32",
             reg(CALLBACKTYPE_syscall32, syscall32_entry, 0), rc);
    check_rc("register sysenter", reg(CALLBACKTYPE_sysenter, sysenter_entry, 0),
             rc);
    test_syscall();
    test_sysenter();
    test_single_step();
    if (!software_kvm())
        test_masks();
    test_kernel();
    check_rc("syscall32 stays", unreg(CALLBACKTYPE_syscall32), -XEN_EINVAL);
    check_rc("sysenter stays", unreg(CALLBACKTYPE_sysenter), -XEN_EINVAL);
}

static bool exit_hook(struct regs *r)
{
    (void)r;
    return false;
}

static void test_syscall64(void)
{
    static const uint64_t stacks[] = {0, 8, 0x8000000000000000,
                                      0xffff808000300000, ~0UL};
    unsigned int right = 0;

    reg(CALLBACKTYPE_syscall, syscall_entry, 0);
    for (unsigned int i = 0; i < ARRAY_SIZE(stacks); i++) {
        user_run(user_syscall_rsp, stacks[i]);
        right += caught.vector == ENTRY_SYSCALL && caught.rsp == stacks[i];
    }
    check_eq("64 bits: any rsp will do", right, ARRAY_SIZE(stacks));
    user_rflags |= RFLAGS_DF;
    user_run(user_syscall_rsp, USER_STACK_TOP);
    user_rflags &= ~RFLAGS_DF;
    check_eq("64 bits: the frame has DF", caught.rflags & RFLAGS_DF, RFLAGS_DF);
    check_eq("64 bits: DF is clear in the kernel", live_flags & RFLAGS_DF, 0);
}

/* --- from one width to the other -------------------------------------------------- */

static void test_far(void)
{
    syscall_hook = exit_hook;
    user32_run(user32_to_64, 0);
    syscall_hook = NULL;
    check(caught.taken && caught.vector == ENTRY_SYSCALL &&
              caught.cs == FLAT_USER_CS && caught.regs.rdi == 0x64,
          "32 to 64 bits", "vector %u rip 0x%lx cs 0x%x", caught.vector,
          caught.rip, caught.cs);
    if (software_kvm()) {
        skip("64 to 32 bits", "a software KVM loads from the host's table");
        return;
    }
    user_run(user_to_32, user32_va(user32_int80));
    check_caught("64 to 32 bits", 0x80, 0, user32_va(user32_int80) + 2,
                 FLAT_USER_CS32);
}

/* --- segments of the guest's LDT --------------------------------------------------- */

static uint64_t ldt[512] PAGE_ALIGNED;

#define LDT_32 0x0f /* entry 1 */
#define LDT_16 0x17
#define LDT_DATA 0x1f

/* Code at user32_va()'s page, a page long. */
static uint64_t code_segment(bool is_32)
{
    return 0x0000fb0000000fffUL | (is_32 ? 1UL << 54 : 0) |
           (uint64_t)(USER32_CODE_VA & 0xffffff) << 16 |
           (uint64_t)(USER32_CODE_VA >> 24) << 56;
}

static void expect_in(uint16_t cs, const char *name, const uint8_t *code,
                      unsigned int vector, uint64_t error, unsigned int offset)
{
    uint64_t at = user32_va(code) - USER32_CODE_VA;

    user32_run_in(cs, at, 0);
    check_caught(name, vector, error, at + offset, cs);
}

static void test_segment(uint16_t cs)
{
    expect_in(cs, "based: int 0x80", user32_int80, 0x80, 0, 2);
    expect_in(cs, "based: #UD", user32_ud2, X86_UD, 0, 0);
    expect_in(cs, "based: #BP", user32_int3, X86_BP, 0, 1);
    expect_in(cs, "based: int 0x21 refused", user32_int21, X86_GP, 0x21 * 8 + 2,
              0);
    trap_gate(0x21, 3, false);
    expect_in(cs, "based: int 0x21 with prefixes", user32_int21_prefixed, 0x21,
              0, 4);
    trap_gate(0x21, 0, false);
    expect_in(cs, "based: cli", user32_cli, X86_GP, 0, 0);
    if (has_syscall32) {
        uint64_t at = user32_va(user32_syscall) - USER32_CODE_VA;

        user32_run_in(cs, at, 0);
        check_caught("based: syscall forgets the segment", ENTRY_SYSCALL32, 0,
                     at + 3, FLAT_USER_CS32);
    }
}

/* With IOPL 3 the decoder has more to do. */
static void test_io(void)
{
    struct physdev_set_iopl iopl = {.iopl = 3};

    check_rc("IOPL 3", CALL(physdev_op, PHYSDEVOP_set_iopl, &iopl), 0);
    expect("cli has no effect", user32_cli, 0, 0x80, 0, 3);
    expect("in of 32 bits", user32_in, 0, 0x80, 0, 13);
    check_eq("all of eax", caught.regs.rax, 0xffffffff);
    expect("in of 16 bits", user32_in66, 0, 0x80, 0, 10);
    check_eq("half of eax", caught.regs.rax, 0x1234ffff);
    if (!software_kvm()) {
        expect_in(LDT_32, "based: cli has no effect", user32_cli, 0x80, 0, 3);
        expect_in(LDT_32, "based: in of 32 bits", user32_in, 0x80, 0, 13);
        expect_in(LDT_16, "16 bits: in of 16 bits", user16_in, 0x80, 0, 9);
        check_eq("16 bits: ax, and no more", caught.regs.rax, 0xffff);
        expect_in(LDT_16, "16 bits: in of 32 bits", user16_in66, 0x80, 0, 7);
        check_eq("16 bits: eax", caught.regs.rax, 0xffffffff);
    }
    iopl.iopl = 0;
    CALL(physdev_op, PHYSDEVOP_set_iopl, &iopl);
}

static void test_ldt(void)
{
    ldt[LDT_32 >> 3] = code_segment(true);
    ldt[LDT_16 >> 3] = code_segment(false);
    if (page_protect(ldt, false))
        panic("LDT page");
    check_rc("SET_LDT", mmuext(MMUEXT_SET_LDT, (uint64_t)ldt, 512), 0);
    if (software_kvm()) {
        skip("code in segments of the LDT", "a software KVM has no LDT");
    } else {
        test_segment(LDT_32);
        test_segment(LDT_16);
    }
    test_io();
    check_rc("SET_LDT: none", mmuext(MMUEXT_SET_LDT, 0, 0), 0);
}

void guest_main(void)
{
    events_init();
    user_init();
    user32_init();
    find_vendor();
    test_exceptions();
    test_int21();
    test_callbacks();
    test_syscall64();
    test_far();
    test_ldt();
}
