/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the entry point to guest_main and out again. */
#include "tests/guests/lib/guest.h"

shared_info_t *shared;
static uint8_t shared_page[PAGE_SIZE] PAGE_ALIGNED;

void start(void);

bool cmdline_has(const char *word)
{
    const char *at = (const char *)start_info->cmd_line;
    size_t length = strlen(word);

    while (*at) {
        while (*at == ' ')
            at++;
        if (starts_with(at, word) && (at[length] == 0 || at[length] == ' '))
            return true;
        while (*at && *at != ' ')
            at++;
    }
    return false;
}

bool software_kvm(void)
{
    return cmdline_has("kvm=software");
}

/* shared_info is a machine address: map it over a page of our own. */
static void map_shared_info(void)
{
    int64_t rc = CALL(update_va_mapping, shared_page,
                      start_info->shared_info | PTE_KERNEL, UVMF_INVLPG);

    if (rc)
        panic("shared_info cannot be mapped");
    shared = (shared_info_t *)shared_page;
}

void start(void)
{
    memory_init();
    console_init();
    map_shared_info();
    use_vcpu_info(&shared->vcpu_info[0]);
    traps_init();
    print("guest: %s\n", guest_name);
    guest_main();
    verdict();
    shutdown(SHUTDOWN_poweroff);
}

void shutdown(unsigned int reason)
{
    struct sched_shutdown arg = {.reason = reason};

    CALL(sched_op, SCHEDOP_shutdown, &arg);
    for (;;)
        CALL(sched_op, SCHEDOP_yield, 0);
}

void panic(const char *why)
{
    print("FAIL panic: %s\n", why);
    verdict();
    shutdown(SHUTDOWN_crash);
}
