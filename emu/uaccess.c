/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest virtual memory, reached under the guest kernel's root. */
#include "emu/emu.h"

int copy_user(void *to, const void *from, uint64_t bytes);

struct extable {
    uint64_t from, to;
};

extern const struct extable extable_start[], extable_end[];

int copy_from_guest(void *to, uint64_t va, uint64_t bytes)
{
    if (unlikely(reaches_hole(va, bytes)))
        return -XEN_EFAULT;
    return copy_user(to, (const void *)va, bytes);
}

int copy_to_guest(uint64_t va, const void *from, uint64_t bytes)
{
    if (unlikely(reaches_hole(va, bytes)))
        return -XEN_EFAULT;
    return copy_user((void *)va, from, bytes);
}

uint64_t fixup_exception(uint64_t rip)
{
    for (const struct extable *e = extable_start; e < extable_end; e++) {
        if (e->from == rip)
            return e->to;
    }
    return 0;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *p = a, *q = b;

    for (size_t i = 0; i < bytes; i++) {
        if (p[i] != q[i])
            return p[i] - q[i];
    }
    return 0;
}
