/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network engine: serves one queue of one vif, between the frontend's two
 * rings and a queue of a tap device. Read by cffi as well.
 *
 * Python starts a thread that calls net_run(); that returns when there is
 * something to be told, and is called again. net_kick(), net_look() and
 * net_statistics() may be called from any thread, the others only while
 * net_run() is not running. Functions return 0 or a negative errno.
 */
#ifndef NETBACKD_ENGINE_H
#define NETBACKD_ENGINE_H

#ifndef ABI_NO_INCLUDES
#include <stdint.h>
#endif

/* Addresses that a frontend may have in its multicast filter. */
#define NET_MAX_MULTICAST 64

/* Offloads, a bit each. */
#define NET_GSO_TCPV4 1
#define NET_GSO_TCPV6 2

/* Why net_run() came back. */
#define NET_EXIT_KICKED 1
/* The frontend's indices, or a packet's slots, cannot be. */
#define NET_EXIT_BROKEN_RING 2
/* The tap is no more. */
#define NET_EXIT_TAP_LOST 3

/* One queue of a frontend. One channel for both: the ports are the same. */
struct net_ring {
    uint32_t domid;
    uint32_t tx_ref, rx_ref; /* tx is what the guest sends */
    uint32_t tx_port, rx_port;
};

struct net_link {
    int fd; /* the caller's: a tap's queue, non-blocking, IFF_VNET_HDR */
    uint8_t can_sg;        /* a packet for the guest may take several buffers */
    uint8_t gso;           /* NET_GSO_*: what it takes uncut */
    uint8_t has_rx_notify; /* it says when it has given buffers */
    uint8_t reserved[1];
};

/*
 * Of all queues of a vif, the caller's: each word is used atomically. Begins
 * as zeros.
 */
struct net_filter {
    uint64_t address[NET_MAX_MULTICAST]; /* bytes 0-5, and 1 << 48: in use */
    uint64_t is_active;
};

struct net_exit {
    uint32_t why; /* NET_EXIT_* */
};

/* Since net_new(). tx is from the guest, rx to it. */
struct net_statistics {
    uint64_t tx_packets, tx_bytes, tx_gso;
    uint64_t tx_refused;   /* the frontend asked for what cannot be */
    uint64_t tx_dropped;   /* the tap would not have it */
    uint64_t tx_throttled; /* times that the rate limit made it wait */
    uint64_t rx_packets, rx_bytes, rx_gso;
    uint64_t rx_filtered; /* multicast that the guest does not want */
    uint64_t rx_dropped;  /* too large for this frontend, or bad grants */
    uint64_t rx_starved;  /* times that the guest had no buffers */
    uint64_t shortages;   /* times that the host lacked what a packet takes */
    uint64_t wakes;       /* net_run() slept and was woken */
    uint64_t notifies;    /* events sent */
};

/* What all queues of a vif may send together; calls from any thread. */
struct net_limit;
/* NULL: no memory. There is no limit yet. */
struct net_limit *net_limit_new(void);
/* So many bytes in each interval; 0, 0: as they like. net_look() then. */
void net_limit_set(struct net_limit *limit, uint32_t bytes,
                   uint32_t interval_us);
/* After the engines. */
void net_limit_free(struct net_limit *limit);

struct net_engine;

/* NULL and errno on failure. */
struct net_engine *net_new(struct net_filter *filter, struct net_limit *limit);
/*
 * Map the rings and bind their event channels. On failure nothing is left
 * behind: EINVAL the grants are wrong, others as xenevtchn_bind_interdomain()
 * says.
 */
int net_attach(struct net_engine *e, const struct net_ring *ring,
               const struct net_link *link);
/* Serve; 0 and *out, or -errno if nothing can be served any more. */
int net_run(struct net_engine *e, struct net_exit *out);
/* Make net_run() come back, now or when it is next called. */
void net_kick(struct net_engine *e);
/* If it waits for the end of an interval, let it ask the limit anew. */
void net_look(struct net_engine *e);
/* Let go of rings, channels and tap. The engine can be attached again. */
void net_quiesce(struct net_engine *e);
void net_statistics(const struct net_engine *e, struct net_statistics *out);
/* Only what is not attached. */
void net_free(struct net_engine *e);

#endif
