/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "limit.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* What is saved up at most, if an interval's is not more (so xen-netback). */
#define MIN_BURST_BYTES (128 << 10)
#define NS_PER_US 1000

struct net_limit {
    pthread_mutex_t lock;
    bool is_set; /* atomic: without a rate nobody takes the lock */
    int64_t bytes, interval_ns;
    /* Below zero after a packet that was larger than what was left: so a large
     * one has its turn however many small ones another queue sends. */
    int64_t left_bytes;
    int64_t next_ns; /* when there is more */
};

int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

struct net_limit *net_limit_new(void)
{
    struct net_limit *limit = calloc(1, sizeof(*limit));

    if (limit)
        pthread_mutex_init(&limit->lock, NULL);
    return limit;
}

void net_limit_free(struct net_limit *limit)
{
    pthread_mutex_destroy(&limit->lock);
    free(limit);
}

void net_limit_set(struct net_limit *limit, uint32_t bytes,
                   uint32_t interval_us)
{
    pthread_mutex_lock(&limit->lock);
    limit->bytes = limit->left_bytes = bytes;
    limit->interval_ns = (int64_t)interval_us * NS_PER_US;
    limit->next_ns = now_ns() + limit->interval_ns;
    __atomic_store_n(&limit->is_set, bytes && interval_us, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&limit->lock);
}

static void add_credit(struct net_limit *limit)
{
    int64_t most =
        limit->bytes > MIN_BURST_BYTES ? limit->bytes : MIN_BURST_BYTES;
    int64_t now = now_ns(), nr_intervals, nr_useful;

    if (now < limit->next_ns)
        return;
    nr_intervals = 1 + (now - limit->next_ns) / limit->interval_ns;
    limit->next_ns += nr_intervals * limit->interval_ns;
    nr_useful = (most - limit->left_bytes) / limit->bytes + 1;
    limit->left_bytes +=
        (nr_intervals < nr_useful ? nr_intervals : nr_useful) * limit->bytes;
    if (limit->left_bytes > most)
        limit->left_bytes = most;
}

bool limit_take(struct net_limit *limit, uint32_t bytes, int64_t *retry_ns)
{
    bool may_go = true;

    if (!__atomic_load_n(&limit->is_set, __ATOMIC_RELAXED))
        return true;
    pthread_mutex_lock(&limit->lock);
    /* Again: it may have been lifted meanwhile. */
    if (limit->is_set) {
        if (limit->left_bytes < bytes)
            add_credit(limit);
        may_go = limit->left_bytes > 0;
        if (may_go)
            limit->left_bytes -= bytes;
        *retry_ns = limit->next_ns;
    }
    pthread_mutex_unlock(&limit->lock);
    return may_go;
}

void limit_give_back(struct net_limit *limit, uint32_t bytes)
{
    if (!__atomic_load_n(&limit->is_set, __ATOMIC_RELAXED))
        return;
    pthread_mutex_lock(&limit->lock);
    limit->left_bytes += bytes;
    pthread_mutex_unlock(&limit->lock);
}
