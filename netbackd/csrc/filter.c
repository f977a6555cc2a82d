/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "filter.h"

#include <string.h>

#define IN_USE (UINT64_C(1) << 48)

static uint64_t entry_of(const uint8_t address[6])
{
    uint64_t entry = IN_USE;

    memcpy(&entry, address, 6);
    return entry;
}

static bool is_group(const uint8_t address[6])
{
    return address[0] & 1;
}

static bool contains(const struct net_filter *filter, uint64_t entry)
{
    for (int i = 0; i < NET_MAX_MULTICAST; i++) {
        if (__atomic_load_n(&filter->address[i], __ATOMIC_RELAXED) == entry)
            return true;
    }
    return false;
}

/* Put `after` where `before` stands; queues may do so at the same time. */
static bool replace(struct net_filter *filter, uint64_t before, uint64_t after)
{
    for (int i = 0; i < NET_MAX_MULTICAST; i++) {
        uint64_t expected = before;

        if (__atomic_compare_exchange_n(&filter->address[i], &expected, after,
                                        false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

bool filter_add(struct net_filter *filter, const uint8_t address[6])
{
    uint64_t entry = entry_of(address);

    return contains(filter, entry) || replace(filter, 0, entry);
}

bool filter_remove(struct net_filter *filter, const uint8_t address[6])
{
    return replace(filter, entry_of(address), 0);
}

bool filter_is_active(const struct net_filter *filter)
{
    return __atomic_load_n(&filter->is_active, __ATOMIC_RELAXED);
}

bool filter_blocks(const struct net_filter *filter, const uint8_t address[6])
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    return is_group(address) && memcmp(address, broadcast, 6) &&
           !contains(filter, entry_of(address));
}
