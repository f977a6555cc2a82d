/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest may send through a vif, by all its queues together. */
#ifndef NETBACKD_LIMIT_H
#define NETBACKD_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

int64_t now_ns(void);

/*
 * May so many bytes go now? If so they are taken from what is left. If not,
 * *retry_ns is when there is more, on now_ns()'s clock.
 */
bool limit_take(struct net_limit *limit, uint32_t bytes, int64_t *retry_ns);
/* They did not go after all. */
void limit_give_back(struct net_limit *limit, uint32_t bytes);

#endif
