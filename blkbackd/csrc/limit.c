/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a disk may do in a second: two token buckets, of requests and of bytes,
 * that all its rings draw from.
 *
 * A bucket is a point in time: when it will be full again if nothing is drawn
 * (the generic cell rate algorithm). A request is let in while anything is
 * left, and may draw more than that: one that is larger than the bucket waits
 * for its turn, not for ever.
 */
#include "limit.h"

#include <stdbool.h>
#include <stdlib.h>

#include "engine.h"

#define NS_PER_S 1000000000

struct bucket {
    uint64_t per_s;   /* 0: no limit */
    int64_t burst_ns; /* as long as it takes to fill it */
    int64_t full_ns;
};

struct blk_limiter {
    struct bucket requests, bytes;
};

#define LOAD(what) __atomic_load_n(&(what), __ATOMIC_RELAXED)
#define STORE(what, value) __atomic_store_n(&(what), value, __ATOMIC_RELAXED)

/* More than 292 years are not counted. */
static int64_t ns_for(uint64_t amount, uint64_t per_s)
{
    unsigned __int128 ns = (unsigned __int128)amount * NS_PER_S / per_s;

    return ns > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)ns;
}

struct blk_limiter *blk_limiter_new(void)
{
    return calloc(1, sizeof(struct blk_limiter));
}

void blk_limiter_free(struct blk_limiter *limiter)
{
    free(limiter);
}

static void set(struct bucket *bucket, uint64_t per_s, uint64_t burst)
{
    int64_t burst_ns = per_s ? ns_for(burst, per_s) : 0;

    if (!burst_ns)
        burst_ns = 1;
    /* What is told again, beside another's change, fills no bucket. */
    if (LOAD(bucket->per_s) == per_s && LOAD(bucket->burst_ns) == burst_ns)
        return;
    STORE(bucket->per_s, per_s);
    STORE(bucket->burst_ns, burst_ns);
    STORE(bucket->full_ns, 0);
}

void blk_limiter_set(struct blk_limiter *limiter, const struct blk_limits *now)
{
    set(&limiter->requests, now->requests_per_s, now->requests_burst);
    set(&limiter->bytes, now->bytes_per_s, now->bytes_burst);
}

static int64_t wait_ns(const struct bucket *bucket, int64_t now)
{
    int64_t wait;

    if (!LOAD(bucket->per_s))
        return 0;
    wait = LOAD(bucket->full_ns) - now - LOAD(bucket->burst_ns) + 1;
    return wait > 0 ? wait : 0;
}

int64_t limit_wait_ns(const struct blk_limiter *limiter, int64_t now)
{
    int64_t requests = wait_ns(&limiter->requests, now);
    int64_t bytes = wait_ns(&limiter->bytes, now);

    return requests > bytes ? requests : bytes;
}

/* Another ring may draw at the same time. */
static void draw(struct bucket *bucket, int64_t now, uint64_t amount)
{
    uint64_t per_s = LOAD(bucket->per_s);
    int64_t before, after, cost;

    if (!per_s || !amount)
        return;
    cost = ns_for(amount, per_s);
    before = LOAD(bucket->full_ns);
    do {
        after = (before > now ? before : now) + cost;
    } while (!__atomic_compare_exchange_n(&bucket->full_ns, &before, after,
                                          true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
}

void limit_draw_request(struct blk_limiter *limiter, int64_t now)
{
    draw(&limiter->requests, now, 1);
}

void limit_draw_bytes(struct blk_limiter *limiter, int64_t now, uint64_t bytes)
{
    draw(&limiter->bytes, now, bytes);
}
