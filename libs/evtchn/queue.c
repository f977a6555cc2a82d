/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A handle's ports by number, and the queue of those that are pending. */
#include <stdlib.h>

#include "handle.h"

struct port **port_bucket(xenevtchn_handle *xce, uint32_t number)
{
    return &xce->buckets[number % NR_BUCKETS];
}

struct port *port_find(xenevtchn_handle *xce, uint32_t number)
{
    struct port *port = *port_bucket(xce, number);

    while (port && port->number != number)
        port = port->next;
    return port;
}

/* Have the descriptor report POLLIN: there are ports in the queue. */
void make_readable(xenevtchn_handle *xce)
{
    if (xce->is_rung)
        return;
    xce->is_rung = true;
    ring(xce->doorbell);
}

/* Queue a port, masked from now until xenevtchn_unmask(). */
void port_make_ready(xenevtchn_handle *xce, struct port *port)
{
    uint64_t bit = PAGE_BIT(port->number);
    uint32_t word = PAGE_WORD(port->number);

    page_set(&xce->page->mask[word], bit);
    page_clear(&xce->page->pending[word], bit);
    if (port->is_ready)
        return;
    port->is_ready = true;
    port->next_ready = NULL;
    *xce->last_ready = port;
    xce->last_ready = &port->next_ready;
}

uint32_t dequeue(xenevtchn_handle *xce)
{
    struct port *port = xce->first_ready;
    uint32_t number = port->number;

    xce->first_ready = port->next_ready;
    if (!xce->first_ready)
        xce->last_ready = &xce->first_ready;
    port->is_ready = false;
    if (port->is_closed)
        free(port);
    return number;
}
