/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ring.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include <xen/io/netif.h>

int ring_attach(struct ring *ring, xengnttab_handle *xgt, uint32_t domid,
                uint32_t ref, uint32_t slot_bytes, uint32_t nr_slots)
{
    char *page = xengnttab_map_domain_grant_refs(xgt, 1, domid, &ref,
                                                 PROT_READ | PROT_WRITE);

    if (!page)
        return -errno;
    ring->shared = (struct ring_indices *)(void *)page;
    ring->slots = page + offsetof(struct netif_tx_sring, ring);
    ring->slot_bytes = slot_bytes;
    ring->nr_slots = nr_slots;
    /* A ring that was in use goes on where its answers ended. */
    ring->rsp_prod = __atomic_load_n(&ring->shared->rsp_prod, __ATOMIC_RELAXED);
    ring->rsp_notified = ring->req_cons = ring->rsp_prod;
    return 0;
}

void ring_detach(struct ring *ring, xengnttab_handle *xgt)
{
    xengnttab_unmap(xgt, ring->shared, 1);
    ring->shared = NULL;
}

char *ring_slot(const struct ring *ring, uint32_t index)
{
    return ring->slots +
           (size_t)(index & (ring->nr_slots - 1)) * ring->slot_bytes;
}

int ring_producer(const struct ring *ring, uint32_t *prod)
{
    uint32_t nr_unanswered = ring->req_cons - ring->rsp_prod;

    /* The slots are read after the index that says that they are filled. */
    *prod = __atomic_load_n(&ring->shared->req_prod, __ATOMIC_ACQUIRE);
    /* Unsigned: an index that went back is one that is far ahead. */
    return *prod - ring->req_cons > ring->nr_slots - nr_unanswered ? -EPROTO
                                                                   : 0;
}

bool ring_is_quiet(struct ring *ring)
{
    uint32_t prod;

    __atomic_store_n(&ring->shared->req_event, ring->req_cons + 1,
                     __ATOMIC_RELAXED);
    /* The frontend sees that we want an event before we look once more. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return !ring_producer(ring, &prod) && prod == ring->req_cons;
}

void ring_store(struct ring *ring)
{
    /* The frontend sees the answers before the index that covers them. */
    __atomic_store_n(&ring->shared->rsp_prod, ring->rsp_prod, __ATOMIC_RELEASE);
}

bool ring_publish(struct ring *ring)
{
    uint32_t before = ring->rsp_notified, now = ring->rsp_prod, wanted;

    if (before == now)
        return false;
    ring->rsp_notified = now;
    ring_store(ring);
    /* It sees the index before we look whether it went to sleep. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wanted = __atomic_load_n(&ring->shared->rsp_event, __ATOMIC_RELAXED);
    return now - wanted < now - before;
}
