/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest virtual memory, reached under the guest kernel's root. */
#include "emu/emu.h"

int copy_user(void *to, const void *from, uint64_t bytes);

struct extable {
    uint64_t from, to;
};

extern const struct extable extable_start[], extable_end[];

/* Xen's hole is emu's: a guest that points there is refused, as on Xen. */
static bool reaches_hole(uint64_t va, uint64_t bytes)
{
    uint64_t first = (uint64_t)XEN_FIRST_SLOT << 39 | 0xffffUL << 48;
    uint64_t end = (uint64_t)XEN_END_SLOT << 39 | 0xffffUL << 48;

    return va + bytes < va || (va < end && va + bytes > first);
}

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
