/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The shared ring: io/ring.h's protocol, with a frontend that may lie. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "state.h"

static char *slot_at(struct blk_engine *e, uint32_t index)
{
    return (char *)e->sring + offsetof(struct blkif_sring, ring) +
           (size_t)(index & (e->nr_slots - 1)) * e->slot_bytes;
}

int ring_attach(struct blk_engine *e)
{
    const struct blk_ring *ring = &e->ring;
    int port;

    if (ring->abi > BLK_ABI_32 || !ring->nr_pages ||
        ring->nr_pages > BLK_MAX_RING_PAGES)
        return -EINVAL;
    e->sring =
        xengnttab_map_domain_grant_refs(e->xgt, ring->nr_pages, ring->domid,
                                        e->ring.ref, PROT_READ | PROT_WRITE);
    if (!e->sring)
        return -errno;
    port = xenevtchn_bind_interdomain(e->xce, ring->domid, ring->port);
    if (port < 0) {
        int saved = errno;

        xengnttab_unmap(e->xgt, e->sring, ring->nr_pages);
        e->sring = NULL;
        return -saved;
    }
    e->port = (evtchn_port_t)port;
    e->slot_bytes = blk_slot_bytes(ring->abi);
    e->nr_slots = blk_ring_slots(ring->abi, ring->nr_pages);
    /* A ring that was in use goes on where its answers ended. */
    e->rsp_prod = __atomic_load_n(&e->sring->rsp_prod, __ATOMIC_RELAXED);
    e->rsp_notified = e->req_cons = e->rsp_prod;
    return 0;
}

void ring_detach(struct blk_engine *e)
{
    xenevtchn_unbind(e->xce, e->port);
    xengnttab_unmap(e->xgt, e->sring, e->ring.nr_pages);
    e->sring = NULL;
}

static bool may_take(const struct blk_engine *e)
{
    return !e->held && !e->is_barrier_busy;
}

/* Where requests end; -EPROTO if the ring has no room for that many. */
static int producer(struct blk_engine *e, uint32_t *prod)
{
    uint32_t nr_unanswered = e->req_cons - e->rsp_prod;

    /* The slots are read after the index that says that they are filled. */
    *prod = __atomic_load_n(&e->sring->req_prod, __ATOMIC_ACQUIRE);
    /* Unsigned: an index that went back is one that is far ahead. */
    return *prod - e->req_cons > e->nr_slots - nr_unanswered ? -EPROTO : 0;
}

/* From a slot's copy; the frontend may rewrite the slot at any time. */
static void begin(struct blk_engine *e, struct work *work, const void *copy)
{
    int16_t status = blk_request_decode(e->ring.abi, copy, &work->request);

    work->began_ns = e->now_ns;
    if (status == BLKIF_RSP_OKAY) {
        io_begin(e, work);
    } else {
        COUNT(e, refused, 1);
        ring_answer(e, work, status);
    }
}

void ring_redo(struct blk_engine *e)
{
    uint64_t copy[sizeof(struct blkif_request) / sizeof(uint64_t)];

    while (e->nr_redo && may_take(e)) {
        struct work *work = record_redo(e, copy);

        if (work)
            begin(e, work, copy);
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
    limit_draw_request(e->volume.limiter, e->now_ns);
    return false;
}

int ring_take(struct blk_engine *e)
{
    uint64_t copy[sizeof(struct blkif_request) / sizeof(uint64_t)];
    uint32_t prod;

    e->now_ns = clock_ns();
    ring_redo(e);
    if (producer(e, &prod))
        return -EPROTO;
    /* What waited for a limit has been taken back. */
    if (e->req_cons == prod)
        end_throttling(e);
    while (e->req_cons != prod && may_take(e) && !is_throttled(e)) {
        struct work *work = e->free;

        memcpy(copy, slot_at(e, e->req_cons), e->slot_bytes);
        record_take(e, work, copy);
        e->req_cons++;
        e->free = work->next;
        begin(e, work, copy);
    }
    return 0;
}

bool ring_has_more(const struct blk_engine *e)
{
    return may_take(e) && !e->resume_ns &&
           __atomic_load_n(&e->sring->req_prod, __ATOMIC_RELAXED) !=
               e->req_cons;
}

bool ring_is_quiet(struct blk_engine *e)
{
    uint32_t prod;

    /* A completion or the clock wakes us then, and no event is needed. */
    if (!may_take(e) || e->resume_ns)
        return true;
    __atomic_store_n(&e->sring->req_event, e->req_cons + 1, __ATOMIC_RELAXED);
    /* The frontend sees that we want an event before we look once more. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return !producer(e, &prod) && prod == e->req_cons;
}

void ring_answer(struct blk_engine *e, struct work *work, int16_t status)
{
    blk_response_encode(e->ring.abi, &work->request, status,
                        slot_at(e, e->rsp_prod));
    record_answer(e, work);
    e->rsp_prod++;
    work->next = e->free;
    e->free = work;
}

void ring_publish(struct blk_engine *e)
{
    uint32_t before = e->rsp_notified, now = e->rsp_prod, wanted;

    if (before == now)
        return;
    e->rsp_notified = now;
    /* The frontend sees the answers before the index that covers them. */
    __atomic_store_n(&e->sring->rsp_prod, now, __ATOMIC_RELEASE);
    /* It sees the index before we look whether it went to sleep. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wanted = __atomic_load_n(&e->sring->rsp_event, __ATOMIC_RELAXED);
    if (now - wanted < now - before) {
        COUNT(e, notifies, 1);
        /* Fails only without a peer, who then needs no event. */
        xenevtchn_notify(e->xce, e->port);
    }
}
