/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests out of the ring: which may come now, and their beginning. */
#include <errno.h>
#include <string.h>

#include "state.h"

static bool may_take(const struct blk_engine *e)
{
    return !e->held && !e->is_barrier_busy;
}

/*
 * Make a request of a slot's copy; the frontend may rewrite the slot at any time.
 * False: the host is short of something that it takes. That is nothing that the
 * guest did: the request stays where it is, and is looked at again.
 */
static bool prepare(struct blk_engine *e, struct work *work, const void *copy,
                    int16_t *status)
{
    *status = blk_request_decode(e->ring.abi, copy, &work->request);
    if (*status != BLKIF_RSP_OKAY || io_prepare(e, work, status))
        return true;
    e->retry_ns = e->now_ns + GRANTED_RETRY_NS;
    COUNT(e, shortages, 1);
    if (!e->is_shortage_told && !e->exit.why) {
        e->is_shortage_told = true;
        e->exit.why = BLK_EXIT_SHORTAGE;
    }
    return false;
}

static void begin(struct blk_engine *e, struct work *work, int16_t status)
{
    work->began_ns = e->now_ns;
    if (status == BLKIF_RSP_OKAY) {
        io_begin(e, work);
    } else {
        COUNT(e, refused, 1);
        ring_answer(e, work, status);
    }
}

void take_redo(struct blk_engine *e)
{
    uint64_t copy[sizeof(struct blkif_request) / sizeof(uint64_t)];
    int16_t status;

    e->retry_ns = 0;
    while (e->nr_redo && may_take(e)) {
        struct work *work = record_redo(e, copy);

        if (!work)
            break;
        if (!prepare(e, work, copy, &status)) {
            record_redo_later(e, work);
            break;
        }
        begin(e, work, status);
    }
}

static void end_throttling(struct blk_engine *e)
{
    if (e->resume_ns)
        COUNT(e, throttled_us, (uint64_t)(e->now_ns - e->throttled_ns) / 1000);
    e->resume_ns = 0;
}

/* Does a limit say that the next request stays in the ring for now? */
static bool is_throttled(struct blk_engine *e)
{
    int64_t wait;

    if (!e->volume.limiter)
        return false;
    wait = limit_wait_ns(e->volume.limiter, e->now_ns);
    if (wait) {
        if (!e->resume_ns) {
            e->throttled_ns = e->now_ns;
            COUNT(e, throttled, 1);
        }
        e->resume_ns = e->now_ns + wait;
        return true;
    }
    end_throttling(e);
    return false;
}

int take_requests(struct blk_engine *e)
{
    uint64_t copy[sizeof(struct blkif_request) / sizeof(uint64_t)];
    uint32_t prod;
    int16_t status;

    e->now_ns = clock_ns();
    take_redo(e);
    if (ring_producer(e, &prod))
        return -EPROTO;
    /* Older than any that is in the ring. */
    if (e->nr_redo)
        return 0;
    /* What waited for a limit has been taken back. */
    if (e->req_cons == prod)
        end_throttling(e);
    while (e->req_cons != prod && may_take(e) && !is_throttled(e)) {
        struct work *work = e->free;

        memcpy(copy, ring_slot(e, e->req_cons), e->slot_bytes);
        if (!prepare(e, work, copy, &status))
            break;
        if (e->volume.limiter)
            limit_draw_request(e->volume.limiter, e->now_ns);
        record_take(e, work, copy);
        e->req_cons++;
        e->free = work->next;
        begin(e, work, status);
    }
    return 0;
}

bool take_has_more(const struct blk_engine *e)
{
    return may_take(e) && !e->resume_ns && !e->retry_ns &&
           __atomic_load_n(&e->sring->req_prod, __ATOMIC_RELAXED) !=
               e->req_cons;
}

bool take_is_quiet(struct blk_engine *e)
{
    uint32_t prod;

    /* A completion or the clock wakes us then, and no event is needed. */
    if (!may_take(e) || e->resume_ns || e->retry_ns)
        return true;
    __atomic_store_n(&e->sring->req_event, e->req_cons + 1, __ATOMIC_RELAXED);
    /* The frontend sees that we want an event before we look once more. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return !ring_producer(e, &prod) && prod == e->req_cons;
}
