/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A block frontend without a guest: this process is the domain, its memory a
 * vmcore that the caller has made, its channel asked for at evtchnd.
 */
#ifndef TESTS_BLK_FRONTEND_H
#define TESTS_BLK_FRONTEND_H

#include <stdbool.h>
#include <stdint.h>

#include <xen/io/blkif.h>

#include "tests/support/domain.h"

#define RING_PAGE 0
#define SEGMENT_PAGE 16
#define DATA_PAGE 160
#define MAX_DEPTH 128
#define MAX_SEGMENTS 256
#define SECTORS_PER_PAGE 8
#define PAGES_PER_REQUEST 32
#define MAX_QUEUES 4

struct frontend {
    uint32_t number; /* of the queue */
    char *memory;    /* its pages */
    grant_entry_v1_t *grants;
    struct evtchnd_client client;
    int in, out; /* doorbells of the channel */
    uint32_t port;
    bool is_32;
    struct blkif_sring *sring;
    uint32_t nr_slots, slot_bytes;
    uint32_t req_prod, rsp_cons;
};

void frontend_new(struct frontend *f, uint32_t domid);
/* Page of the queue's ring: the first, or one of the last. */
uint32_t ring_page(const struct frontend *f);
/* A fresh ring of so many pages, and a channel. */
void frontend_open(struct frontend *f, uint32_t nr_pages, bool is_32);

char *page_at(struct frontend *f, uint32_t page);

/* Into the ring, not seen yet by the backend. */
void put(struct frontend *f, const struct blkif_request *request);
/* A read or write of whole sectors with the pages from first_page on. */
void put_io(struct frontend *f, uint8_t op, uint64_t id, uint64_t sector,
            uint32_t nr_sectors, uint32_t first_page);
/* Show what was put, and ring if the backend wants it. */
void push(struct frontend *f);
void ring_backend(struct frontend *f);
/* Is there an answer? Taken if so. */
bool take(struct frontend *f, struct blkif_response *response);
/* The same, waited for. */
void take_wait(struct frontend *f, struct blkif_response *response);

/*
 * So many requests, so many at once, each checked, by each queue that is open:
 * see frontend_main.c.
 */
void verify(struct frontend *queues, uint32_t count, uint32_t depth,
            bool is_mixed);

#endif
