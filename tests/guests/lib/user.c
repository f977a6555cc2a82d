/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User mode: one page each of text, data and stack, under a root of its own
 * and, as Linux has it, under the kernel's root too.
 */
#include "tests/guests/lib/guest.h"

uint8_t user_data[PAGE_SIZE] PAGE_ALIGNED;
uint8_t user_stack[PAGE_SIZE] PAGE_ALIGNED;
uint8_t kernel_stack[2 * PAGE_SIZE] PAGE_ALIGNED;
uint64_t user_l4[512] PAGE_ALIGNED;
static uint64_t user_l3[512] PAGE_ALIGNED, user_l2[512] PAGE_ALIGNED,
    user_l1[3][512] PAGE_ALIGNED;
uint64_t user_root_mfn;
uint64_t user_iret_flags, user_rflags = RFLAGS_IF;

#define INDEX(va, level) ((va) >> (12 + 9 * ((level)-1)) & 511)

uint64_t user_enter(struct iret_context *context, uint64_t arg);
void user_leave_asm(uint64_t result) __attribute__((noreturn));
void user_return(void);

static uint64_t entry(const void *table)
{
    return maddr_of(table) | PTE_USER;
}

void user_init(void)
{
    user_l4[INDEX(USER_CODE_VA, 4)] = entry(user_l3);
    user_l3[INDEX(USER_CODE_VA, 3)] = entry(user_l2);
    user_l2[INDEX(USER_CODE_VA, 2)] = entry(user_l1[0]);
    user_l2[INDEX(USER_DATA_VA, 2)] = entry(user_l1[0]);
    user_l2[INDEX(USER_STACK_VA, 2)] = entry(user_l1[1]);
    user_l1[0][INDEX(USER_CODE_VA, 1)] =
        maddr_of(user_page_text) | PTE_P | PTE_US | PTE_A;
    user_l1[0][INDEX(USER_DATA_VA, 1)] = entry(user_data);
    user_l1[1][INDEX(USER_STACK_VA, 1)] = entry(user_stack);

    if (page_protect(user_l4, false) || page_protect(user_l3, false) ||
        page_protect(user_l2, false) || page_protect(user_l1[0], false) ||
        page_protect(user_l1[1], false))
        panic("user page tables cannot be made read-only");
    if (pin(user_l4, 4))
        panic("user root cannot be pinned");
    if (mmu_write(pte_of((void *)USER_CODE_VA, 4), entry(user_l3),
                  MMU_NORMAL_PT_UPDATE))
        panic("user space cannot be put into the kernel's root");
    user_root_mfn = mfn_of(user_l4);
    if (mmuext(MMUEXT_NEW_USER_BASEPTR, user_root_mfn, 0))
        panic("MMUEXT_NEW_USER_BASEPTR");
    if (CALL(stack_switch, FLAT_KERNEL_SS, kernel_stack + sizeof(kernel_stack)))
        panic("stack_switch");
}

uint64_t user_va(const void *fn)
{
    return USER_CODE_VA + ((uint64_t)fn - (uint64_t)user_page_text);
}

uint64_t user_run(void *fn, uint64_t arg)
{
    struct iret_context context = {
        .rip = user_va(fn),
        .cs = FLAT_USER_CS,
        .rflags = user_rflags,
        .rsp = USER_STACK_TOP,
        .ss = FLAT_USER_SS,
        .flags = user_iret_flags,
        .rcx = 0x1c1c1c1c1c1c1c1c,
        .r11 = 0x1111111111111111,
        .rax = 0x1a1a1a1a1a1a1a1a,
    };

    caught.taken = false;
    *(uint64_t *)(user_stack + PAGE_SIZE - 8) = user_va(user_return);
    return user_enter(&context, arg);
}

void user_leave(uint64_t result)
{
    user_leave_asm(result);
}
