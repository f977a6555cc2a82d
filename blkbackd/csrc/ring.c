/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The shared ring: io/ring.h's protocol, with a frontend that may lie. */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "state.h"

char *ring_slot(struct blk_engine *e, uint32_t index)
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

int ring_producer(struct blk_engine *e, uint32_t *prod)
{
    uint32_t nr_unanswered = e->req_cons - e->rsp_prod;

    /* The slots are read after the index that says that they are filled. */
    *prod = __atomic_load_n(&e->sring->req_prod, __ATOMIC_ACQUIRE);
    /* Unsigned: an index that went back is one that is far ahead. */
    return *prod - e->req_cons > e->nr_slots - nr_unanswered ? -EPROTO : 0;
}

void ring_answer(struct blk_engine *e, struct work *work, int16_t status)
{
    blk_response_encode(e->ring.abi, &work->request, status,
                        ring_slot(e, e->rsp_prod));
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
