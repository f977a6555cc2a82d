/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network frontend without a guest: this process is the domain, its memory a
 * vmcore that the caller has made, its channels asked for at evtchnd.
 */
#ifndef TESTS_NET_FRONTEND_H
#define TESTS_NET_FRONTEND_H

#include <stdbool.h>
#include <stdint.h>

#include <xen/io/netif.h>

#include "tests/support/domain.h"

#define MAX_QUEUES 8
#define NR_SLOTS 256
/* Rings of queue q, and the pages that its requests of id n use. */
#define TX_RING_PAGE(q) (2 * (q))
#define RX_RING_PAGE(q) (2 * (q) + 1)
#define TX_PAGE(q, n) (16 + (q)*512 + (n))
#define RX_PAGE(q, n) (16 + (q)*512 + 256 + (n))

struct queue {
    uint32_t number;
    int tx_in, tx_out, rx_in, rx_out; /* doorbells; one channel: the same */
    uint32_t tx_port, rx_port;
    netif_tx_sring_t *tx;
    netif_rx_sring_t *rx;
    uint32_t tx_prod, tx_cons, rx_prod, rx_cons;
    bool is_mute; /* no events for buffers */
};

struct frontend {
    char *memory; /* its pages */
    grant_entry_v1_t *grants;
    struct evtchnd_client client;
    uint32_t nr_queues;
    struct queue queue[MAX_QUEUES];
};

/* A packet as it came. */
struct packet {
    uint16_t flags; /* of its first response */
    uint8_t gso_type;
    uint16_t gso_size;
    uint32_t nr_slots;
    int32_t bytes; /* negative: a response with that status */
    char *data;    /* 64 KiB and more, the caller's; NULL: not wanted */
};

void frontend_new(struct frontend *f, uint32_t domid);
/* Fresh rings and channels, of split ones two a queue, a bit for each; all
 * buffers are the backend's then. */
void frontend_open(struct frontend *f, uint32_t nr_queues, uint32_t split);

char *page_at(struct frontend *f, uint32_t page);

/* Into the ring, not seen yet by the backend. A slot of any kind. */
void tx_put(struct queue *q, const netif_tx_request_t *request);
/* A packet whose data stands in the pages from id on, in one slot each. */
void tx_push(struct queue *q);
void tx_ring(struct queue *q);
/* Is there an answer? Taken if so. */
bool tx_take(struct queue *q, netif_tx_response_t *response);
void tx_take_wait(struct queue *q, netif_tx_response_t *response);

/* Is there a packet? Taken if so, and its buffers given back. */
bool rx_take(struct frontend *f, struct queue *q, struct packet *packet);
/* Have the backend see the buffers that were given back. */
void rx_push(struct queue *q);
/* Sleep until something comes: false if nothing did. */
bool rx_sleep(struct queue *q, int timeout_ms);

#endif
