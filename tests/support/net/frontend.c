/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/net/frontend.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void frontend_new(struct frontend *f, uint32_t domid)
{
    domain_open(domid, &f->memory, &f->grants, &f->client);
}

static uint32_t channel(struct frontend *f, int *in, int *out)
{
    struct evtchnd_request request = {
        .type = EVTCHND_ALLOC_UNBOUND,
        .dom = EVTCHND_SELF,
        .remote_dom = 0,
    };
    struct evtchnd_answer answer;

    must(!evtchnd_call(&f->client, &request, -1, -1, &answer), "channel");
    *in = answer.in;
    *out = answer.out;
    return answer.reply.port;
}

static void rx_give(struct queue *q, uint16_t id)
{
    RING_IDX at = q->rx_prod++ & (NR_SLOTS - 1);

    q->rx->ring[at].req = (netif_rx_request_t){
        .id = id, .gref = FIRST_REF + RX_PAGE(q->number, id)};
}

static void open_queue(struct frontend *f, struct queue *q, bool is_split)
{
    q->tx_port = q->rx_port = channel(f, &q->tx_in, &q->tx_out);
    q->rx_in = q->tx_in;
    q->rx_out = q->tx_out;
    if (is_split)
        q->rx_port = channel(f, &q->rx_in, &q->rx_out);
    q->tx = (void *)page_at(f, TX_RING_PAGE(q->number));
    q->rx = (void *)page_at(f, RX_RING_PAGE(q->number));
    memset(q->tx, 0, PAGE_BYTES);
    memset(q->rx, 0, PAGE_BYTES);
    SHARED_RING_INIT(q->tx);
    SHARED_RING_INIT(q->rx);
    q->tx_prod = q->tx_cons = q->rx_prod = q->rx_cons = 0;
    for (uint16_t id = 0; id < NR_SLOTS; id++)
        rx_give(q, id);
    q->rx->req_prod = q->rx_prod;
}

void frontend_open(struct frontend *f, uint32_t nr_queues, uint32_t split)
{
    f->nr_queues = nr_queues;
    for (uint32_t i = 0; i < nr_queues; i++) {
        f->queue[i].number = i;
        open_queue(f, &f->queue[i], split >> i & 1);
    }
}

char *page_at(struct frontend *f, uint32_t page)
{
    return f->memory + (size_t)page * PAGE_BYTES;
}

void tx_put(struct queue *q, const netif_tx_request_t *request)
{
    q->tx->ring[q->tx_prod++ & (NR_SLOTS - 1)].req = *request;
}

void tx_ring(struct queue *q)
{
    eventfd_write(q->tx_out, 1);
}

void tx_push(struct queue *q)
{
    uint32_t before = q->tx->req_prod, wanted;

    __atomic_store_n(&q->tx->req_prod, q->tx_prod, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wanted = __atomic_load_n(&q->tx->req_event, __ATOMIC_RELAXED);
    if (q->tx_prod - wanted < q->tx_prod - before)
        tx_ring(q);
}

bool tx_take(struct queue *q, netif_tx_response_t *response)
{
    if (__atomic_load_n(&q->tx->rsp_prod, __ATOMIC_ACQUIRE) == q->tx_cons)
        return false;
    *response = q->tx->ring[q->tx_cons++ & (NR_SLOTS - 1)].rsp;
    return true;
}

static bool sleep_on(int in, int timeout_ms)
{
    struct pollfd fds = {.fd = in, .events = POLLIN};
    eventfd_t count;

    if (poll(&fds, 1, timeout_ms) <= 0)
        return false;
    eventfd_read(in, &count);
    return true;
}

void tx_take_wait(struct queue *q, netif_tx_response_t *response)
{
    while (!tx_take(q, response)) {
        /* As Linux' driver: when half of what is on its way has come. */
        uint32_t half = (q->tx_prod - q->tx_cons) / 2;

        __atomic_store_n(&q->tx->rsp_event, q->tx_cons + half + 1,
                         __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (__atomic_load_n(&q->tx->rsp_prod, __ATOMIC_ACQUIRE) - q->tx_cons <=
            half)
            sleep_on(q->tx_in, -1);
    }
}

bool rx_take(struct frontend *f, struct queue *q, struct packet *packet)
{
    RING_IDX prod = __atomic_load_n(&q->rx->rsp_prod, __ATOMIC_ACQUIRE);
    uint16_t flags;

    if (prod == q->rx_cons)
        return false;
    packet->nr_slots = 0;
    packet->bytes = 0;
    packet->gso_type = XEN_NETIF_GSO_TYPE_NONE;
    do {
        netif_rx_response_t response;

        must(prod != q->rx_cons, "a packet without an end");
        response = q->rx->ring[q->rx_cons++ & (NR_SLOTS - 1)].rsp;
        flags = response.flags;
        rx_give(q, response.id);
        if (response.status < 0) {
            packet->bytes = response.status;
            return true;
        }
        if (packet->data)
            memcpy(packet->data + packet->bytes,
                   page_at(f, RX_PAGE(q->number, response.id)) +
                       response.offset,
                   (size_t)response.status);
        packet->bytes += response.status;
        if (!packet->nr_slots++)
            packet->flags = flags;
        if (flags & NETRXF_extra_info) {
            netif_extra_info_t extra;
            uint32_t at = q->rx_cons++ & (NR_SLOTS - 1);

            memcpy(&extra, &q->rx->ring[at], sizeof(extra));
            must(extra.type == XEN_NETIF_EXTRA_TYPE_GSO && !extra.flags,
                 "extra");
            packet->gso_type = extra.u.gso.type;
            packet->gso_size = extra.u.gso.size;
            /* It says no id: its buffer is the one of its slot. */
            rx_give(q, (uint16_t)at);
        }
    } while (flags & NETRXF_more_data);
    return true;
}

void rx_push(struct queue *q)
{
    uint32_t before = q->rx->req_prod, wanted;

    __atomic_store_n(&q->rx->req_prod, q->rx_prod, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wanted = __atomic_load_n(&q->rx->req_event, __ATOMIC_RELAXED);
    if (q->rx_prod - wanted < q->rx_prod - before && !q->is_mute)
        eventfd_write(q->rx_out, 1);
}

bool rx_sleep(struct queue *q, int timeout_ms)
{
    __atomic_store_n(&q->rx->rsp_event, q->rx_cons + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&q->rx->rsp_prod, __ATOMIC_ACQUIRE) != q->rx_cons)
        return true;
    return sleep_on(q->rx_in, timeout_ms);
}
