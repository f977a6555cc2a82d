/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest that runs first: if it fails, the rig is at fault. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "canary";

void guest_main(void)
{
    check(true, "alive", "cannot happen");
    check(starts_with(start_info->magic, "xen-3."), "start_info magic",
          "reads '%s'", start_info->magic);
    PROBE("ud2");
    check_trap("ud2 is caught", X86_UD, 0);
    check_eq("hypercall through `syscall`",
             (uint64_t)hypercall_syscall(__HYPERVISOR_xen_version,
                                         XENVER_version, 0, 0, 0, 0) >>
                 16,
             (uint64_t)CALL(xen_version, XENVER_version, 0) >> 16);
}
