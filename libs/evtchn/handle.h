/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A handle: its ports, its page, and one epoll descriptor over all that can
 * make a port pending; that is what xenevtchn_fd() gives.
 *
 * Two ways lead to a pending port. Another handle of the host sets the port's
 * bit in our page and rings the page's doorbell, which stays armed (edge
 * triggered, never read): a notification costs one write(2) there and one
 * epoll_wait(2) here, and masking costs nothing. A guest's ioeventfd, and
 * evtchnd for VIRQs, ring the port's own doorbell, which epoll disarms when it
 * reports it (EPOLLONESHOT) and xenevtchn_unmask() arms again.
 *
 * A doorbell of the page may ring late, when its bit was taken together with an
 * earlier one. Then a port is told as pending once too often, because a
 * caller that saw POLLIN must not be left blocking.
 */
#ifndef LIBS_EVTCHN_HANDLE_H
#define LIBS_EVTCHN_HANDLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <xenevtchn.h>

#include "libs/client/active.h"
#include "libs/client/client.h"
#include "libs/evtchn/page.h"

#define NR_BUCKETS 256

/* A peer's page, mapped once for all ports that lead there. */
struct target {
    struct target *next;
    uint64_t id;   /* evtchnd's page_id */
    uint32_t kind; /* EVTCHND_PAGE_* */
    unsigned int users;
    void *map; /* what munmap(2) takes */
    size_t map_bytes;
    union {
        struct evtchnd_page *host;
        struct emu_pending *guest;
    };
    int doorbell;
};

struct port {
    struct port *next; /* in its bucket */
    struct port *next_ready;
    uint32_t number;
    uint32_t status; /* EVTCHNSTAT_* */
    uint32_t remote_dom, remote_port, virq;
    uint32_t generation; /* of our page when the peer was asked for */
    int in, out;
    struct target *target; /* NULL: ring out */
    bool is_ready;         /* in the queue */
    bool is_disarmed;      /* its doorbell rang and is not armed yet */
    bool is_closed;        /* only still in the queue: told once, then gone */
};

struct xenevtchn_handle {
    struct active_handle active;
    struct evtchnd_client client;
    pthread_mutex_t lock; /* all below; never held over a request */
    uint32_t only_domid;  /* restricted to it; 0: not */
    pid_t pid;            /* who opened it: a child may only close */
    int epoll, timer;
    int page_fd, doorbell;
    struct evtchnd_page *page;
    struct port *buckets[NR_BUCKETS];
    struct target *targets;
    struct port *first_ready, **last_ready;
    uint32_t last_taken; /* port whose bit came out of the page last */
    bool is_rung;        /* our own ring of doorbell is on its way */
};

/* What epoll_event.data.u64 says: a port's number, or one of these. */
#define SOURCE_PAGE (UINT64_C(1) << 32)   /* its doorbell; page_fd below */
#define SOURCE_SOCKET (UINT64_C(2) << 32) /* only_domid below */
#define SOURCE_TIMER (UINT64_C(3) << 32)
#define SOURCE_KINDS (UINT64_C(3) << 32)

/* doorbell.c */
int arm(xenevtchn_handle *xce, int how, int fd, uint32_t events,
        uint64_t source);
void ring(int doorbell);
/* A descriptor that evtchnd sent goes through exec(2) if the handle does. */
int keep_over_exec(const xenevtchn_handle *xce, int fd);

/* queue.c */
/* Where the ports of a number's bucket begin. */
struct port **port_bucket(xenevtchn_handle *xce, uint32_t number);
struct port *port_find(xenevtchn_handle *xce, uint32_t number);
void port_make_ready(xenevtchn_handle *xce, struct port *port);
/* The next port of the queue, which is not empty; 0 is never one. */
uint32_t dequeue(xenevtchn_handle *xce);
void make_readable(xenevtchn_handle *xce);

/* core.c */
xenevtchn_handle *handle_new(void);
/* The structure alone. */
void handle_free(xenevtchn_handle *xce);
/* From now on libxentoolcore knows it. */
void handle_listed(xenevtchn_handle *xce);

/* ports.c */
/* Take over an answer's port and descriptors. NULL and errno: closed. */
struct port *port_open(xenevtchn_handle *xce, struct evtchnd_answer *answer);
/* Learn a port's peer anew. */
void port_relink(xenevtchn_handle *xce, struct port *port,
                 struct evtchnd_answer *answer);
/*
 * A port that is queued stays so until it is told: its POLLIN may have been
 * seen. /dev/xen/evtchn tells of closed ports too.
 */
void port_close(xenevtchn_handle *xce, struct port *port);

/* receive.c */
/* Take what has happened so far off the descriptor. */
void take_all(xenevtchn_handle *xce);

/* reconnect.c: called without the lock. */
int handle_reconnect(xenevtchn_handle *xce);
/* Ask; if the connection is lost, once more on a new one. */
int handle_call(xenevtchn_handle *xce, struct evtchnd_request *request,
                struct evtchnd_answer *answer);

#endif
