/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine's life, and the loop that waits for frontend and tap. */
#define _GNU_SOURCE
#include "engine.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "limit.h"
#include "state.h"

#define LINGER_NS 5000
/* How often buffers are looked for that no event tells of. */
#define LOOK_NS 30000000

void net_free(struct net_engine *e)
{
    int saved = errno;

    if (!e)
        return;
    if (e->xgt)
        xengnttab_close(e->xgt);
    if (e->xce)
        xenevtchn_close(e->xce);
    if (e->control >= 0)
        close(e->control);
    free(e);
    errno = saved;
}

struct net_engine *net_new(struct net_filter *filter, struct net_limit *limit)
{
    struct net_engine *e = calloc(1, sizeof(*e));

    if (!e)
        return NULL;
    e->filter = filter;
    e->limit = limit;
    e->control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->control < 0)
        goto fail;
    e->xce = xenevtchn_open(NULL, 0);
    if (!e->xce)
        goto fail;
    e->xgt = xengnttab_open(NULL, 0);
    if (!e->xgt)
        goto fail;
    return e;
fail:
    net_free(e);
    return NULL;
}

static int bind(struct net_engine *e, uint32_t remote, evtchn_port_t *port)
{
    int rc = xenevtchn_bind_interdomain(e->xce, e->ids.domid, remote);

    if (rc < 0)
        return -errno;
    *port = (evtchn_port_t)rc;
    return 0;
}

static int bind_ports(struct net_engine *e)
{
    int rc = bind(e, e->ids.tx_port, &e->tx.port);

    if (rc)
        return rc;
    e->is_split = e->ids.rx_port != e->ids.tx_port;
    e->rx.port = e->tx.port;
    if (!e->is_split)
        return 0;
    rc = bind(e, e->ids.rx_port, &e->rx.port);
    if (rc)
        xenevtchn_unbind(e->xce, e->tx.port);
    return rc;
}

int net_attach(struct net_engine *e, const struct net_ring *ring,
               const struct net_link *link)
{
    int rc;

    if (e->tx.shared)
        return -EBUSY;
    e->ids = *ring;
    e->link = *link;
    rc = ring_attach(&e->tx, e->xgt, ring->domid, ring->tx_ref,
                     sizeof(union netif_tx_sring_entry), NR_RING_SLOTS);
    if (rc)
        return rc;
    rc = ring_attach(&e->rx, e->xgt, ring->domid, ring->rx_ref,
                     sizeof(union netif_rx_sring_entry), NR_RING_SLOTS);
    if (rc)
        goto fail_tx;
    rc = bind_ports(e);
    if (rc)
        goto fail_rx;
    tx_attach(e);
    rx_attach(e);
    e->is_throttled = false;
    e->why = 0;
    /* One that was killed before us may have stored answers, and not lived to
     * say so: the frontend would wait for that for ever. */
    xenevtchn_notify(e->xce, e->tx.port);
    if (e->is_split)
        xenevtchn_notify(e->xce, e->rx.port);
    return 0;
fail_rx:
    ring_detach(&e->rx, e->xgt);
fail_tx:
    ring_detach(&e->tx, e->xgt);
    return rc;
}

void net_quiesce(struct net_engine *e)
{
    if (!e->tx.shared)
        return;
    publish_answers(e);
    rx_detach(e);
    if (e->is_split)
        xenevtchn_unbind(e->xce, e->rx.port);
    xenevtchn_unbind(e->xce, e->tx.port);
    ring_detach(&e->rx, e->xgt);
    ring_detach(&e->tx, e->xgt);
}

void net_kick(struct net_engine *e)
{
    __atomic_store_n(&e->is_kicked, 1, __ATOMIC_SEQ_CST);
    eventfd_write(e->control, 1);
}

void net_look(struct net_engine *e)
{
    eventfd_write(e->control, 1);
}

/* May the engine sleep? Then whoever has something will wake it. */
static bool is_quiet(struct net_engine *e)
{
    if (!e->is_throttled && !ring_is_quiet(&e->tx))
        return false;
    return e->is_starved ? rx_is_starved(e) : e->has_read_all;
}

/* How long at most; NULL: until something comes. */
static struct timespec *sleep_limit(struct net_engine *e,
                                    struct timespec *limit)
{
    bool must_look =
        e->is_starved && (!e->link.has_rx_notify || e->is_rx_short);
    int64_t left_ns = LOOK_NS;

    if (!e->is_throttled && !must_look)
        return NULL;
    if (e->is_throttled)
        left_ns = e->retry_ns - now_ns();
    if (must_look && left_ns > LOOK_NS)
        left_ns = LOOK_NS;
    if (left_ns < 0)
        left_ns = 0;
    limit->tv_sec = left_ns / 1000000000;
    limit->tv_nsec = left_ns % 1000000000;
    return limit;
}

/* Has net_kick() been called? */
static void look_at_kick(struct net_engine *e)
{
    if (__atomic_load_n(&e->is_kicked, __ATOMIC_RELAXED) && !e->why) {
        __atomic_store_n(&e->is_kicked, 0, __ATOMIC_SEQ_CST);
        e->why = NET_EXIT_KICKED;
    }
}

/* Sleep until frontend, tap or control have something; -errno. */
static int wait_events(struct net_engine *e)
{
    struct pollfd fds[] = {
        {.fd = xenevtchn_fd(e->xce), .events = POLLIN},
        {.fd = e->control, .events = POLLIN},
        /* Not while the guest has no room for it. */
        {.fd = e->is_starved ? -1 : e->link.fd, .events = POLLIN},
    };
    struct timespec limit;
    eventfd_t count;

    COUNT(e, wakes, 1);
    if (ppoll(fds, 3, sleep_limit(e, &limit), NULL) < 0)
        return errno == EINTR ? 0 : -errno;
    if (fds[0].revents) {
        int port = xenevtchn_pending(e->xce);

        /* Unmasked before the rings are looked at: no event is lost. */
        if (port < 0 || xenevtchn_unmask(e->xce, (evtchn_port_t)port))
            return -errno;
    }
    if (fds[1].revents)
        eventfd_read(e->control, &count);
    if (fds[2].revents & (POLLERR | POLLNVAL))
        e->why = NET_EXIT_TAP_LOST;
    return 0;
}

/*
 * A guest that has just sent something often has more in a moment: to look for
 * it a little longer costs less than to be woken for it.
 */
static void linger(struct net_engine *e)
{
    int64_t end_ns = now_ns() + LINGER_NS;
    uint32_t prod;

    while (!ring_producer(&e->tx, &prod) && prod == e->tx.req_cons &&
           now_ns() < end_ns)
        __builtin_ia32_pause();
}

int net_run(struct net_engine *e, struct net_exit *out)
{
    int rc = 0;

    while (!rc && !e->why) {
        uint32_t before = e->tx.req_cons;

        if (tx_take(e) || rx_take(e)) {
            e->why = NET_EXIT_BROKEN_RING;
            break;
        }
        publish_answers(e);
        if (e->tx.req_cons != before && e->has_read_all)
            linger(e);
        /* To ask the kernel for what may have come costs as much as a packet:
         * while there is more to do, what is done shows it too. */
        if (!e->why && is_quiet(e))
            rc = wait_events(e);
        look_at_kick(e);
    }
    out->why = e->why;
    e->why = 0;
    return rc;
}

void net_statistics(const struct net_engine *e, struct net_statistics *out)
{
    const uint64_t *from = (const uint64_t *)&e->statistics;
    uint64_t *to = (uint64_t *)out;

    for (size_t i = 0; i < sizeof(*out) / sizeof(*to); i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
