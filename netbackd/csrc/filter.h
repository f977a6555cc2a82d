/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which multicast addresses a frontend wants: shared by a vif's queues. */
#ifndef NETBACKD_FILTER_H
#define NETBACKD_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

/* False: there is no room. An address that is there already is fine. */
bool filter_add(struct net_filter *filter, const uint8_t address[6]);
/* False: it is not there. */
bool filter_remove(struct net_filter *filter, const uint8_t address[6]);

bool filter_is_active(const struct net_filter *filter);
/* Is a frame for this address to be kept from the guest? */
bool filter_blocks(const struct net_filter *filter, const uint8_t address[6]);

#endif
