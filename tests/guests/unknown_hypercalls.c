/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers that mean nothing, and sub-ops that mean nothing. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "unknown_hypercalls";

void guest_main(void)
{
    static const uint64_t numbers[] = {
        11,  38,  47,   55,         60,   63,        64,         100,
        127, 128, 1000, 0x7fffffff, ~0UL, 1UL << 32, 0x80000000, 0xffffffff};
    uint64_t preserved = 0;

    for (unsigned int i = 0; i < ARRAY_SIZE(numbers); i++)
        check(hypercall_syscall(numbers[i], 0, 0, 0, 0, 0) == -XEN_ENOSYS,
              "unknown number", "0x%lx is not -ENOSYS", numbers[i]);
    check_rc("sched_op", CALL(sched_op, 99, 0), -XEN_ENOSYS);
    check_rc("event_channel_op", CALL(event_channel_op, 99, 0), -XEN_ENOSYS);
    check_rc("memory_op", CALL(memory_op, 60, 0), -XEN_ENOSYS);
    check_rc("vcpu_op", CALL(vcpu_op, 99, 0, 0), -XEN_ENOSYS);
    check_rc("callback_op", CALL(callback_op, 99, 0), -XEN_ENOSYS);
    check_rc("physdev_op", CALL(physdev_op, 99, 0), -XEN_ENOSYS);
    check_rc("vm_assist command",
             CALL(vm_assist, 9, VMASST_TYPE_architectural_iopl), -XEN_ENOSYS);
    check_rc("hvm_op", CALL(hvm_op, 99, 0), -XEN_ENOSYS);
    /* Registers that the ABI keeps: all but rax, rcx and r11. */
    __asm__ volatile("mov $0x1122334455667788, %%rbx\n\t"
                     "mov %%rbx, %%r12\n\tmov %%rbx, %%r13\n\t"
                     "mov %%rbx, %%r14\n\tmov %%rbx, %%r15\n\t"
                     "mov %%rbx, %%r9\n\tmov %%rbx, %%rdi\n\t"
                     "mov %%rbx, %%rsi\n\tmov %%rbx, %%rdx\n\t"
                     "mov %%rbx, %%r10\n\tmov %%rbx, %%r8\n\t"
                     "mov $63, %%eax\n\tsyscall\n\t"
                     "xor %%rbx, %%r12\n\txor %%rbx, %%r13\n\t"
                     "xor %%rbx, %%r14\n\txor %%rbx, %%r15\n\t"
                     "xor %%rbx, %%r9\n\txor %%rbx, %%rdi\n\t"
                     "xor %%rbx, %%rsi\n\txor %%rbx, %%rdx\n\t"
                     "xor %%rbx, %%r10\n\txor %%rbx, %%r8\n\t"
                     "or %%r12, %%r13\n\tor %%r14, %%r15\n\t"
                     "or %%r9, %%rdi\n\tor %%rsi, %%rdx\n\tor %%r10, %%r8\n\t"
                     "or %%r13, %%r15\n\tor %%rdi, %%rdx\n\t"
                     "or %%r15, %%r8\n\tor %%rdx, %%r8\n\tmov %%r8, %0"
                     : "=m"(preserved)
                     :
                     : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9",
                       "r10", "r11", "r12", "r13", "r14", "r15", "cc",
                       "memory");
    check_eq("registers are kept", preserved, 0);
}
