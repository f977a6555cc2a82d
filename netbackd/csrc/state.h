/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the engine's parts share. engine.c stands on tx.c and rx.c, and all of
 * them on publish.c. */
#ifndef NETBACKD_STATE_H
#define NETBACKD_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>
#include <xen/grant_table.h>
#include <xen/io/netif.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#include "engine.h"
#include "libs/gnttab/granted.h"
#include "ring.h"

#define PAGE_BYTES 4096U
/* Of either ring: a power of two that fits in a page. */
#define NR_RING_SLOTS 256
/* Packets that one direction moves before the other has its turn. */
#define BUDGET 64
/* Answers that are published while there is more to do, so that the frontend
 * fills its ring meanwhile. */
#define MAX_UNPUBLISHED 32
/* A packet of 64 KiB and its headers, and the slot that its GSO takes. */
#define MAX_RX_SLOTS 18
#define WINDOW 32 /* power of two, at least MAX_RX_SLOTS */
#define MAX_FRAME_BYTES (17 * PAGE_BYTES)

/* A buffer of the guest's that has been taken from its ring. */
struct buffer {
    char *page; /* NULL: its grant is bad */
    struct granted granted;
    uint16_t id;
};

struct net_engine {
    xenevtchn_handle *xce;
    xengnttab_handle *xgt;
    struct net_filter *filter;
    struct net_limit *limit;
    int control; /* eventfd: net_kick(), net_look() */
    uint32_t is_kicked;
    struct net_statistics statistics;

    /* As long as it is attached. */
    struct net_ring ids;
    struct net_link link;
    struct ring tx, rx;
    bool is_split; /* each ring has a channel of its own */
    uint32_t why;  /* of net_exit */
    bool
        is_throttled; /* by its limit, or because the host is short of memory */
    int64_t retry_ns; /* if so, when it may send again */
    bool is_starved;  /* the guest has no buffers for what comes next, */
    bool is_rx_short; /* or has, and the host is short of memory for them */
    bool has_read_all;

    uint32_t max_rx_slots; /* that a packet can take */
    /* Those of rx.rsp_prod to rx.req_cons, each at its index % WINDOW. */
    struct buffer window[WINDOW];
    /* A packet that waits for buffers; 0: there is none. */
    uint32_t held_bytes;
    struct virtio_net_hdr bounce_header;
    char bounce[MAX_FRAME_BYTES];
};

#define COUNT(e, what, n)                                               \
    __atomic_store_n(&(e)->statistics.what, (e)->statistics.what + (n), \
                     __ATOMIC_RELAXED)

/* publish.c */
/* Have the frontend see all answers, with events where it wants them. */
void publish_answers(struct net_engine *e);

/* tx.c */
/*
 * Who had the ring before us may have been killed when a packet's answers were
 * written, some or all, and not their index: answer the packet to its end.
 */
void tx_attach(struct net_engine *e);
/* Send what the guest has put, BUDGET packets at most; -EPROTO. */
int tx_take(struct net_engine *e);

/* rx.c */
void rx_attach(struct net_engine *e);
void rx_detach(struct net_engine *e);
/* Give the guest what has come, BUDGET packets at most; -EPROTO. */
int rx_take(struct net_engine *e);
/* Are there enough buffers again? If not, an event or the clock will tell. */
bool rx_is_starved(struct net_engine *e);

#endif
