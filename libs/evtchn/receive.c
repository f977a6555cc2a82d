/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which port is pending; masks. */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_EVENTS 32

static void take_word(xenevtchn_handle *xce, uint32_t word)
{
    uint64_t mask = __atomic_load_n(&xce->page->mask[word], __ATOMIC_SEQ_CST);
    uint64_t bits =
        __atomic_load_n(&xce->page->pending[word], __ATOMIC_SEQ_CST) & ~mask;

    for (; bits; bits &= bits - 1) {
        uint32_t number = word * 64 + (uint32_t)__builtin_ctzl(bits);
        struct port *port = port_find(xce, number);

        /* Not ours (yet): port_open() looks at the bit. */
        if (!port)
            continue;
        xce->last_taken = number;
        port_make_ready(xce, port);
    }
}

static void take_page(xenevtchn_handle *xce)
{
    struct evtchnd_page *page = xce->page;

    for (uint32_t i = 0; i < EVTCHND_HOST_PORTS / 64 / 64; i++) {
        uint64_t words;

        if (!__atomic_load_n(&page->selector[i], __ATOMIC_RELAXED))
            continue;
        words = __atomic_exchange_n(&page->selector[i], 0, __ATOMIC_SEQ_CST);
        for (; words; words &= words - 1)
            take_word(xce, i * 64 + (uint32_t)__builtin_ctzl(words));
    }
}

/* A port's own doorbell rang; epoll has disarmed it. */
static void take_doorbell(xenevtchn_handle *xce, uint32_t number)
{
    struct port *port = port_find(xce, number);
    struct iovec count = {&(uint64_t){0}, sizeof(uint64_t)};
    ssize_t got;

    if (!port)
        return;
    /*
     * Not read(2): the other side may have emptied it, and may have made it
     * blocking. Whatever came is this event.
     */
    got = preadv2(port->in, &count, 1, -1, RWF_NOWAIT);
    (void)got;
    port->is_disarmed = true;
    port_make_ready(xce, port);
}

static bool take_events(xenevtchn_handle *xce, const struct epoll_event *events,
                        int nr_events, bool *was_rung)
{
    bool is_lost = false;

    *was_rung = false;

    for (int i = 0; i < nr_events; i++) {
        switch (events[i].data.u64 & SOURCE_KINDS) {
        case SOURCE_PAGE:
            *was_rung = xce->is_rung;
            xce->is_rung = false;
            take_page(xce);
            break;
        case SOURCE_SOCKET:
        case SOURCE_TIMER:
            is_lost = true;
            break;
        default:
            take_doorbell(xce, (uint32_t)events[i].data.u64);
        }
    }
    return is_lost;
}

/*
 * Read what makes the descriptor readable; timeout as for epoll_wait(2).
 * Whether our own ring was in it goes to *was_rung.
 */
static int take_some(xenevtchn_handle *xce, int timeout, bool *was_rung)
{
    struct epoll_event events[MAX_EVENTS];
    bool is_lost;
    int nr_events;

    if (timeout)
        pthread_mutex_unlock(&xce->lock);
    do {
        nr_events = epoll_wait(xce->epoll, events, MAX_EVENTS, timeout);
    } while (nr_events < 0 && errno == EINTR);
    if (timeout)
        pthread_mutex_lock(&xce->lock);
    if (nr_events < 0)
        return -1;
    is_lost = take_events(xce, events, nr_events, was_rung);
    if (is_lost) {
        pthread_mutex_unlock(&xce->lock);
        handle_reconnect(xce);
        pthread_mutex_lock(&xce->lock);
    }
    return nr_events;
}

/*
 * Woken for nothing: another thread was faster, or a doorbell was late. Who was
 * woken by poll(2) must be given a port all the same; see handle.h.
 */
static void any_port(xenevtchn_handle *xce)
{
    struct port *port = port_find(xce, xce->last_taken);

    for (unsigned int i = 0; !port && i < NR_BUCKETS; i++)
        port = xce->buckets[i];
    if (port)
        port_make_ready(xce, port);
}

void take_all(xenevtchn_handle *xce)
{
    bool was_rung;

    while (take_some(xce, 0, &was_rung) == MAX_EVENTS)
        ;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    int nr_events = MAX_EVENTS, number = -1;
    bool was_rung;

    pthread_mutex_lock(&xce->lock);
    while (!xce->first_ready) {
        nr_events = take_some(xce, -1, &was_rung);
        if (nr_events < 0)
            goto out;
        if (!xce->first_ready && !was_rung)
            any_port(xce);
    }
    number = (int)dequeue(xce);
    /* POLLIN is to mean that the next call does not block, and only that. */
    if (!xce->first_ready && (nr_events == MAX_EVENTS || xce->is_rung))
        take_all(xce);
    if (xce->first_ready)
        make_readable(xce);
out:
    pthread_mutex_unlock(&xce->lock);
    return number;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t number)
{
    struct port *port;
    uint64_t bit = PAGE_BIT(number);
    uint32_t word = PAGE_WORD(number);
    int rc = 0;

    if (number >= EVTCHND_HOST_PORTS) {
        errno = EINVAL;
        return -1;
    }
    pthread_mutex_lock(&xce->lock);
    port = port_find(xce, number);
    /* A port that is none is passed over, as /dev/xen/evtchn does. */
    if (!port || port->is_ready)
        goto out;
    page_clear(&xce->page->mask[word], bit);
    if (page_test(&xce->page->pending[word], bit)) {
        port_make_ready(xce, port);
        make_readable(xce);
    } else if (port->is_disarmed) {
        port->is_disarmed = false;
        rc = arm(xce, EPOLL_CTL_MOD, port->in, EPOLLIN | EPOLLONESHOT, number);
    }
out:
    pthread_mutex_unlock(&xce->lock);
    return rc;
}
