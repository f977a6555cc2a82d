/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a disk may do in a second. Times are CLOCK_MONOTONIC's, in ns. */
#ifndef BLKBACKD_LIMIT_H
#define BLKBACKD_LIMIT_H

#include <stdint.h>

struct blk_limiter;

/* How long the next request has to wait; 0: it may come now. */
int64_t limit_wait_ns(const struct blk_limiter *limiter, int64_t now);
/* One has come, and is of so many bytes. */
void limit_draw_request(struct blk_limiter *limiter, int64_t now);
void limit_draw_bytes(struct blk_limiter *limiter, int64_t now, uint64_t bytes);

#endif
