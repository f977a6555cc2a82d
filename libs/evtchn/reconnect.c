/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * evtchnd was restarted: tell it what there is. The channels themselves have
 * gone on, both sides still hold pages and doorbells; only a VIRQ may have been
 * missed, so each of those is told once.
 */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <xen/event_channel.h>

#define RETRY_NS 250000000

static void retry_later(xenevtchn_handle *xce)
{
    struct itimerspec when = {.it_value.tv_nsec = RETRY_NS};

    timerfd_settime(xce->timer, 0, &when, NULL);
}

static void restore_port(xenevtchn_handle *xce, const struct port *port)
{
    struct evtchnd_request request = {
        .type = EVTCHND_RESTORE,
        .dom = EVTCHND_SELF,
        .port = port->number,
        .remote_dom = port->remote_dom,
        .remote_port = port->remote_port,
        .virq = port->virq,
        .value = {port->status},
    };
    struct evtchnd_answer answer;

    /* Refused: somebody has taken its number. The channel works even so. */
    if (!evtchnd_call(&xce->client, &request, port->in, port->out, &answer))
        evtchnd_discard(&answer);
}

/* All ports as they are now, so that no lock is held while asking. */
static struct port *snapshot(xenevtchn_handle *xce, size_t *nr_ports)
{
    struct port *copies = NULL, *larger;
    size_t n = 0;

    for (unsigned int i = 0; i < NR_BUCKETS; i++) {
        for (struct port *port = xce->buckets[i]; port; port = port->next) {
            larger = realloc(copies, (n + 1) * sizeof(*copies));
            if (!larger)
                goto out;
            copies = larger;
            copies[n++] = *port;
            if (port->status == EVTCHNSTAT_virq)
                port_make_ready(xce, port);
        }
    }
out:
    *nr_ports = n;
    return copies;
}

static void restrict_again(xenevtchn_handle *xce)
{
    struct evtchnd_request request = {
        .type = EVTCHND_RESTRICT,
        .dom = EVTCHND_SELF,
        .remote_dom = xce->only_domid,
    };
    struct evtchnd_answer answer;

    if (xce->only_domid &&
        !evtchnd_call(&xce->client, &request, -1, -1, &answer))
        evtchnd_discard(&answer);
}

static void restore(xenevtchn_handle *xce)
{
    struct port *copies;
    size_t nr_ports;

    pthread_mutex_lock(&xce->lock);
    copies = snapshot(xce, &nr_ports);
    pthread_mutex_unlock(&xce->lock);
    /* Another thread may close one meanwhile: then evtchnd has it too long,
     * until this handle is closed. */
    for (size_t i = 0; i < nr_ports; i++)
        restore_port(xce, &copies[i]);
    free(copies);
    /* Last: from then on nothing of other domains is restored. */
    restrict_again(xce);
    pthread_mutex_lock(&xce->lock);
    arm(xce, EPOLL_CTL_ADD, xce->client.fd, EPOLLRDHUP | EPOLLET,
        SOURCE_SOCKET | xce->only_domid);
    if (xce->first_ready)
        make_readable(xce);
    pthread_mutex_unlock(&xce->lock);
}

int handle_reconnect(xenevtchn_handle *xce)
{
    struct evtchnd_answer hello;
    int saved;

    if (evtchnd_reconnect(&xce->client, xce->page_fd, xce->doorbell, &hello)) {
        saved = errno;
        retry_later(xce);
        errno = saved;
        return -1;
    }
    evtchnd_discard(&hello);
    restore(xce);
    return 0;
}

int handle_call(xenevtchn_handle *xce, struct evtchnd_request *request,
                struct evtchnd_answer *answer)
{
    request->dom = EVTCHND_SELF;
    if (!evtchnd_call(&xce->client, request, -1, -1, answer))
        return 0;
    if (!evtchnd_is_lost(errno) || handle_reconnect(xce))
        return -1;
    return evtchnd_call(&xce->client, request, -1, -1, answer);
}
