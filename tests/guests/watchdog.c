/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SCHEDOP_watchdog: two timers, by which a domain is ended that does not come
 * back in time.
 *
 * fire     set one and spin with events masked
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "watchdog";

/* Longer than any test. */
#define LATER 3600

static int64_t watchdog(uint32_t id, uint32_t timeout)
{
    struct sched_watchdog w = {.id = id, .timeout = timeout};

    return CALL(sched_op, SCHEDOP_watchdog, &w);
}

void guest_main(void)
{
    check_rc("none to set", watchdog(1, LATER), -XEN_EINVAL);
    check_rc("none to remove", watchdog(2, 0), -XEN_EINVAL);
    check_rc("no such", watchdog(3, LATER), -XEN_EINVAL);
    check_rc("no such, large", watchdog(~0U, 0), -XEN_EINVAL);
    check_rc("the first", watchdog(0, LATER), 1);
    check_rc("the second", watchdog(0, ~0U), 2);
    check_rc("no third", watchdog(0, LATER), -XEN_ENOSPC);
    check_rc("set anew", watchdog(1, LATER), 0);
    check_rc("removed", watchdog(1, 0), 0);
    check_rc("not twice", watchdog(1, 0), -XEN_EINVAL);
    check_rc("its place is free", watchdog(0, LATER), 1);
    check_rc("bad pointer", CALL(sched_op, SCHEDOP_watchdog, BAD_POINTER),
             -XEN_EFAULT);
    check_rc("remove the first", watchdog(1, 0), 0);
    check_rc("remove the second", watchdog(2, 0), 0);
    if (!cmdline_has("fire"))
        return;
    check_rc("for a second", watchdog(0, 1), 1);
    verdict();
    events_disable();
    for (;;)
        barrier();
}
