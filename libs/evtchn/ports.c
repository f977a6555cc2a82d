/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ports of a handle and the pages of their peers. */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xen/event_channel.h>

static void target_put(xenevtchn_handle *xce, struct target *target)
{
    struct target **link = &xce->targets;

    if (!target || --target->users)
        return;
    while (*link != target)
        link = &(*link)->next;
    *link = target->next;
    munmap(target->map, target->map_bytes);
    close(target->doorbell);
    free(target);
}

/* Map a page. A guest's file must have all of it: no SIGBUS for a short one. */
static int target_map(struct target *target,
                      const struct evtchnd_answer *answer)
{
    const struct evtchnd_reply *reply = &answer->reply;
    bool is_host = reply->page_kind == EVTCHND_PAGE_HOST;
    size_t bytes =
        is_host ? sizeof(struct evtchnd_page) : sizeof(struct emu_pending);
    uint64_t within = reply->page_offset % 4096;
    struct stat file;

    if (fstat(answer->page, &file))
        return -1;
    if (reply->page_offset > (uint64_t)file.st_size ||
        bytes > (uint64_t)file.st_size - reply->page_offset) {
        errno = EINVAL;
        return -1;
    }
    target->map_bytes = within + bytes;
    target->map =
        mmap(NULL, target->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
             answer->page, (off_t)(reply->page_offset - within));
    if (target->map == MAP_FAILED)
        return -1;
    target->host = (void *)((char *)target->map + within);
    return 0;
}

/* The page of an answer, which is the answer's or one that we have. */
static struct target *target_get(xenevtchn_handle *xce,
                                 struct evtchnd_answer *answer)
{
    struct target *target;

    if (answer->page < 0 || answer->doorbell < 0)
        return NULL;
    for (target = xce->targets; target; target = target->next) {
        if (target->id == answer->reply.page_id) {
            target->users++;
            return target;
        }
    }
    target = calloc(1, sizeof(*target));
    if (!target)
        return NULL;
    if (target_map(target, answer)) {
        free(target);
        return NULL;
    }
    target->id = answer->reply.page_id;
    target->kind = answer->reply.page_kind;
    target->users = 1;
    target->doorbell = answer->doorbell;
    answer->doorbell = -1;
    target->next = xce->targets;
    xce->targets = target;
    return target;
}

static uint32_t generation(const xenevtchn_handle *xce)
{
    return __atomic_load_n(&xce->page->generation, __ATOMIC_SEQ_CST);
}

/*
 * Without a page of its peer's, a port rings out instead. A restarted evtchnd
 * has no page of a peer that has not come back yet; the one we know is good.
 */
static void set_peer(xenevtchn_handle *xce, struct port *port,
                     struct evtchnd_answer *answer)
{
    struct target *before = port->target;
    bool has_moved = port->remote_port != answer->reply.remote_port;

    if (!has_moved && answer->page < 0 && before &&
        answer->reply.status == EVTCHNSTAT_interdomain)
        return;
    port->status = answer->reply.status;
    port->remote_dom = answer->reply.remote_dom;
    port->remote_port = answer->reply.remote_port;
    port->target = target_get(xce, answer);
    if (port->target && port->target->kind == EVTCHND_PAGE_HOST &&
        port->remote_port < EVTCHND_HOST_PORTS &&
        (has_moved || port->target != before) &&
        host_page_set(port->target->host, port->remote_port, true))
        ring(port->target->doorbell);
    target_put(xce, before);
}

void port_relink(xenevtchn_handle *xce, struct port *port,
                 struct evtchnd_answer *answer)
{
    set_peer(xce, port, answer);
    evtchnd_discard(answer);
}

struct port *port_open(xenevtchn_handle *xce, struct evtchnd_answer *answer)
{
    struct port *port = calloc(1, sizeof(*port));
    uint32_t number = answer->reply.port;

    if (!port) {
        errno = ENOMEM;
        goto fail;
    }
    if (!number || number >= EVTCHND_HOST_PORTS || answer->in < 0 ||
        port_find(xce, number)) {
        errno = EPROTO;
        goto fail;
    }
    port->number = number;
    port->virq = answer->reply.virq;
    port->in = answer->in;
    port->out = answer->out;
    /* Before its peer is looked at: a change in between is seen next time. */
    port->generation = generation(xce);
    if (keep_over_exec(xce, port->in) ||
        arm(xce, EPOLL_CTL_ADD, port->in, EPOLLIN | EPOLLONESHOT, number))
        goto fail;
    answer->in = answer->out = -1;
    port->next = *port_bucket(xce, number);
    *port_bucket(xce, number) = port;
    set_peer(xce, port, answer);
    evtchnd_discard(answer);
    /* What was sent before there was anybody to take it. */
    if (page_test(&xce->page->pending[PAGE_WORD(number)], PAGE_BIT(number)))
        port_make_ready(xce, port);
    return port;
fail:
    evtchnd_discard(answer);
    free(port);
    return NULL;
}

void port_close(xenevtchn_handle *xce, struct port *port)
{
    uint32_t number = port->number;
    struct port **link = port_bucket(xce, number);

    while (*link != port)
        link = &(*link)->next;
    *link = port->next;
    page_clear(&xce->page->mask[PAGE_WORD(number)], PAGE_BIT(number));
    page_clear(&xce->page->pending[PAGE_WORD(number)], PAGE_BIT(number));
    target_put(xce, port->target);
    /* Others hold the doorbell too, so close(2) alone would leave it armed. */
    epoll_ctl(xce->epoll, EPOLL_CTL_DEL, port->in, NULL);
    close(port->in);
    if (port->out >= 0)
        close(port->out);
    port->is_closed = true;
    if (!port->is_ready)
        free(port);
}
