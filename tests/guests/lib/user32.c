/* SPDX-License-Identifier: GPL-2.0-or-later */
/* User mode below 4 GiB: user.c's pages once more, under both roots. */
#include "tests/guests/lib/guest.h"

static uint64_t l3[512] PAGE_ALIGNED, l2[512] PAGE_ALIGNED,
    l1[512] PAGE_ALIGNED;
uint64_t user32_rsp = USER32_STACK_TOP;

uint64_t user_enter(struct iret_context *context, uint64_t arg);

static uint64_t entry(const void *table)
{
    return maddr_of(table) | PTE_USER;
}

void user32_init(void)
{
    l3[USER32_CODE_VA >> 30] = entry(l2);
    l2[0] = entry(l1);
    l1[0] = maddr_of(user_page_text) | PTE_P | PTE_US | PTE_A;
    l1[1] = entry(user_data);
    l1[2] = entry(user_stack);
    if (page_protect(l3, false) || page_protect(l2, false) ||
        page_protect(l1, false))
        panic("page tables below 4 GiB cannot be made read-only");
    if (mmu_write(user_l4, entry(l3), MMU_NORMAL_PT_UPDATE) ||
        mmu_write(pte_of(NULL, 4), entry(l3), MMU_NORMAL_PT_UPDATE))
        panic("user space cannot be put below 4 GiB");
}

uint32_t user32_va(const void *code)
{
    return USER32_CODE_VA +
           (uint32_t)((uint64_t)code - (uint64_t)user_page_text);
}

void user32_run_in(uint16_t cs, uint64_t rip, uint64_t arg)
{
    struct iret_context context = {
        .rip = rip,
        .cs = cs,
        .rflags = user_rflags,
        .rsp = user32_rsp,
        .ss = FLAT_USER_SS32,
        .flags = user_iret_flags,
        .rcx = 0x1c1c1c1c,
        .r11 = 0x1111111111111111,
        .rax = arg,
    };

    caught.taken = false;
    user_enter(&context, 0);
}

void user32_run(const void *code, uint64_t arg)
{
    user32_run_in(FLAT_USER_CS32, user32_va(code), arg);
}
