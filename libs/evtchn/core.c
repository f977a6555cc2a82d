/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libxenevtchn: handles, and what is asked of evtchnd. */
#include "handle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <xen/event_channel.h>

/* The only flag there is, since VERS_1.2 of Xen's library. */
#ifndef XENEVTCHN_NO_CLOEXEC
#define XENEVTCHN_NO_CLOEXEC (1U << 0)
#endif

/* All of it there, and nothing in it. */
xenevtchn_handle *handle_new(void)
{
    xenevtchn_handle *xce = calloc(1, sizeof(*xce));

    if (!xce)
        return NULL;
    pthread_mutex_init(&xce->lock, NULL);
    xce->pid = getpid();
    xce->page = MAP_FAILED;
    xce->epoll = xce->timer = xce->page_fd = xce->doorbell = -1;
    xce->last_ready = &xce->first_ready;
    return xce;
}

void handle_free(xenevtchn_handle *xce)
{
    int saved = errno;

    pthread_mutex_destroy(&xce->lock);
    free(xce);
    errno = saved;
}

static int set_up(xenevtchn_handle *xce, struct evtchnd_answer *hello,
                  bool cloexec)
{
    struct stat file;

    if (hello->page < 0 || hello->doorbell < 0) {
        errno = EACCES; /* a VM process has no handles */
        return -1;
    }
    if (fstat(hello->page, &file) ||
        file.st_size < (off_t)sizeof(struct evtchnd_page)) {
        errno = EPROTO;
        return -1;
    }
    xce->epoll = epoll_create1(cloexec ? EPOLL_CLOEXEC : 0);
    xce->timer = timerfd_create(CLOCK_MONOTONIC,
                                TFD_NONBLOCK | (cloexec ? TFD_CLOEXEC : 0));
    if (xce->epoll < 0 || xce->timer < 0)
        return -1;
    xce->page_fd = hello->page;
    xce->doorbell = hello->doorbell;
    hello->page = hello->doorbell = -1;
    if (keep_over_exec(xce, xce->page_fd) || keep_over_exec(xce, xce->doorbell))
        return -1;
    xce->page = mmap(NULL, sizeof(*xce->page), PROT_READ | PROT_WRITE,
                     MAP_SHARED, xce->page_fd, 0);
    if (xce->page == MAP_FAILED)
        return -1;
    if (arm(xce, EPOLL_CTL_ADD, xce->doorbell, EPOLLIN | EPOLLET,
            SOURCE_PAGE | (uint32_t)xce->page_fd) ||
        arm(xce, EPOLL_CTL_ADD, xce->timer, EPOLLIN | EPOLLET, SOURCE_TIMER) ||
        arm(xce, EPOLL_CTL_ADD, xce->client.fd, EPOLLRDHUP | EPOLLET,
            SOURCE_SOCKET))
        return -1;
    return 0;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void tear_down(xenevtchn_handle *xce)
{
    int saved = errno;

    evtchnd_disconnect(&xce->client);
    if (xce->page != MAP_FAILED)
        munmap(xce->page, sizeof(*xce->page));
    close_if_open(xce->page_fd);
    close_if_open(xce->doorbell);
    close_if_open(xce->timer);
    close_if_open(xce->epoll);
    handle_free(xce);
    errno = saved;
}

/* EACCES if it is restricted already, EINVAL if that is no guest's number. */
int xenevtchn_restrict(xenevtchn_handle *xce, domid_t domid)
{
    struct evtchnd_request request = {
        .type = EVTCHND_RESTRICT,
        .remote_dom = domid,
    };
    struct evtchnd_answer answer;

    if (handle_call(xce, &request, &answer))
        return -1;
    evtchnd_discard(&answer);
    xce->only_domid = domid;
    /* Who adopts it finds it there. */
    return arm(xce, EPOLL_CTL_MOD, xce->client.fd, EPOLLRDHUP | EPOLLET,
               SOURCE_SOCKET | domid);
}

/* The handle is the first that there is in it. */
static int restrict_handle(struct active_handle *active, uint32_t domid)
{
    return xenevtchn_restrict((xenevtchn_handle *)(void *)active,
                              (domid_t)domid);
}

void handle_listed(xenevtchn_handle *xce)
{
    active_handle_add(&xce->active, restrict_handle);
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger,
                                 unsigned int flags)
{
    bool cloexec = !(flags & XENEVTCHN_NO_CLOEXEC);
    struct evtchnd_answer hello;
    xenevtchn_handle *xce;

    (void)logger;
    if (flags & ~XENEVTCHN_NO_CLOEXEC) {
        errno = EINVAL;
        return NULL;
    }
    xce = handle_new();
    if (!xce)
        return NULL;
    if (evtchnd_connect(&xce->client, cloexec, -1, -1, &hello)) {
        handle_free(xce);
        return NULL;
    }
    if (set_up(xce, &hello, cloexec)) {
        evtchnd_discard(&hello);
        tear_down(xce);
        return NULL;
    }
    handle_listed(xce);
    return xce;
}

int xenevtchn_close(xenevtchn_handle *xce)
{
    if (!xce)
        return 0;
    active_handle_remove(&xce->active);
    /* After fork(2) page and epoll descriptor are the parent's as well. */
    if (xce->pid == getpid()) {
        for (unsigned int i = 0; i < NR_BUCKETS; i++) {
            while (xce->buckets[i])
                port_close(xce, xce->buckets[i]);
        }
        while (xce->first_ready)
            dequeue(xce);
    }
    tear_down(xce);
    return 0;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    return xce->epoll;
}

/* A port that evtchnd made and that could not be taken; errno stays. */
static void give_back(xenevtchn_handle *xce, uint32_t number)
{
    struct evtchnd_request request = {.type = EVTCHND_CLOSE, .port = number};
    struct evtchnd_answer answer;
    int saved = errno;

    if (number && !handle_call(xce, &request, &answer))
        evtchnd_discard(&answer);
    errno = saved;
}

/* Ask for a port; is_pending: as Xen has it for a new interdomain one. */
static xenevtchn_port_or_error_t
bind(xenevtchn_handle *xce, struct evtchnd_request *request, bool is_pending)
{
    struct evtchnd_answer answer;
    struct port *port;
    uint32_t number;

    if (handle_call(xce, request, &answer)) {
        /* Its descriptors had no room here. */
        if (errno == EMFILE)
            give_back(xce, answer.reply.port);
        return -1;
    }
    number = answer.reply.port;
    pthread_mutex_lock(&xce->lock);
    port = port_open(xce, &answer);
    if (port && is_pending)
        port_make_ready(xce, port);
    if (xce->first_ready)
        make_readable(xce);
    pthread_mutex_unlock(&xce->lock);
    if (!port) {
        give_back(xce, number);
        return -1;
    }
    return (int)number;
}

xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle *xce,
                                                      uint32_t domid)
{
    struct evtchnd_request request = {
        .type = EVTCHND_ALLOC_UNBOUND,
        .remote_dom = domid,
    };

    return bind(xce, &request, false);
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce,
                                                     uint32_t domid,
                                                     evtchn_port_t remote_port)
{
    struct evtchnd_request request = {
        .type = EVTCHND_BIND_INTERDOMAIN,
        .remote_dom = domid,
        .remote_port = remote_port,
    };

    return bind(xce, &request, true);
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce,
                                              unsigned int virq)
{
    struct evtchnd_request request = {
        .type = EVTCHND_BIND_VIRQ,
        .virq = virq,
    };

    return bind(xce, &request, false);
}

/* EINVAL for a number that no port has, ENOTCONN for one that is not ours. */
static struct port *own_port(xenevtchn_handle *xce, evtchn_port_t number)
{
    struct port *port = port_find(xce, number);

    if (!port)
        errno = number < EVTCHND_HOST_PORTS ? ENOTCONN : EINVAL;
    return port;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t number)
{
    struct evtchnd_request request = {.type = EVTCHND_CLOSE, .port = number};
    struct evtchnd_answer answer;
    struct port *port;

    pthread_mutex_lock(&xce->lock);
    port = own_port(xce, number);
    if (port) {
        /* Rings that somebody may be on his way to take. */
        take_all(xce);
        port = own_port(xce, number);
    }
    if (port) {
        port_close(xce, port);
        if (xce->first_ready)
            make_readable(xce);
    }
    pthread_mutex_unlock(&xce->lock);
    if (!port)
        return -1;
    /* Without a connection there is nothing to close it at. */
    if (!handle_call(xce, &request, &answer))
        evtchnd_discard(&answer);
    return 0;
}

/*
 * Who the peer is now, if evtchnd says that something has changed. Without
 * evtchnd what we know has to do; the question stays open.
 */
static struct port *relink(xenevtchn_handle *xce, struct port *port)
{
    struct evtchnd_request request = {
        .type = EVTCHND_LINK,
        .dom = EVTCHND_SELF,
        .port = port->number,
    };
    uint32_t now = __atomic_load_n(&xce->page->generation, __ATOMIC_SEQ_CST);
    struct evtchnd_answer answer;
    int rc;

    if (port->generation == now)
        return port;
    pthread_mutex_unlock(&xce->lock);
    rc = evtchnd_call(&xce->client, &request, -1, -1, &answer);
    pthread_mutex_lock(&xce->lock);
    port = own_port(xce, request.port);
    if (port && !rc) {
        port->generation = now;
        port_relink(xce, port, &answer);
    } else if (!rc) {
        evtchnd_discard(&answer);
    }
    return port;
}

static void send(xenevtchn_handle *xce, struct port *port)
{
    struct target *target = port->target;
    bool is_known = port->generation ==
                    __atomic_load_n(&xce->page->generation, __ATOMIC_SEQ_CST);

    /* Nobody there: dropped, as Xen does. */
    if (port->status == EVTCHNSTAT_unbound && is_known)
        return;
    if (!target) {
        ring(port->out);
    } else if (target->kind == EVTCHND_PAGE_GUEST) {
        if (port->remote_port < EVTCHND_GUEST_PORTS) {
            guest_page_set(target->guest, port->remote_port);
            ring(target->doorbell);
        }
    } else if (port->remote_port < EVTCHND_HOST_PORTS &&
               host_page_set(target->host, port->remote_port, false)) {
        ring(target->doorbell);
    }
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t number)
{
    struct port *port;
    int rc = -1;

    pthread_mutex_lock(&xce->lock);
    port = own_port(xce, number);
    if (port)
        port = relink(xce, port);
    if (port && port->status == EVTCHNSTAT_virq) {
        errno = EINVAL;
    } else if (port) {
        send(xce, port);
        rc = 0;
    }
    pthread_mutex_unlock(&xce->lock);
    return rc;
}
