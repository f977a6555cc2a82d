/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the tap to the guest. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "filter.h"
#include "packet.h"
#include "state.h"

/* --- buffers ----------------------------------------------------------------- */

static struct buffer *buffer_at(struct net_engine *e, uint32_t number)
{
    return &e->window[(e->rx.rsp_prod + number) % WINDOW];
}

static uint32_t nr_buffers(const struct net_engine *e)
{
    return e->rx.req_cons - e->rx.rsp_prod;
}

/* As granted_map(). */
static int map(struct net_engine *e, uint32_t ref, struct buffer *buffer)
{
    void *page;
    int rc = -EINVAL;

    buffer->page = NULL;
    /* Nobody receives into the pages of console and store. */
    if (ref >= GNTTAB_NR_RESERVED_ENTRIES)
        rc = granted_map(e->xgt, e->ids.domid, &ref, 1, PROT_READ | PROT_WRITE,
                         &buffer->granted, &page);
    if (!rc)
        buffer->page = page;
    return rc;
}

static void unmap(struct net_engine *e, struct buffer *buffer)
{
    if (buffer->page)
        granted_unmap(e->xgt, &buffer->granted);
    buffer->page = NULL;
}

/* Take and map buffers until there is room for any packet; -EPROTO. */
static int top_up(struct net_engine *e)
{
    struct netif_rx_request request;
    uint32_t prod;

    e->is_rx_short = false;
    if (nr_buffers(e) >= e->max_rx_slots)
        return 0;
    if (ring_producer(&e->rx, &prod))
        return -EPROTO;
    while (nr_buffers(e) < e->max_rx_slots && e->rx.req_cons != prod) {
        struct buffer *buffer = &e->window[e->rx.req_cons % WINDOW];

        memcpy(&request, ring_slot(&e->rx, e->rx.req_cons), sizeof(request));
        e->is_rx_short = map(e, request.gref, buffer) == -EAGAIN;
        /* It stays in the ring, and is looked at again. */
        if (e->is_rx_short)
            break;
        e->rx.req_cons++;
        buffer->id = request.id;
    }
    return 0;
}

/* Answer the first buffer, or that of an extra, and let go of it. */
static void answer(struct net_engine *e, uint16_t flags, int16_t status,
                   const struct netif_extra_info *extra)
{
    struct buffer *buffer = buffer_at(e, 0);
    struct netif_rx_response response = {buffer->id, 0, flags, status};
    char *slot = ring_slot(&e->rx, e->rx.rsp_prod++);

    unmap(e, buffer);
    if (extra)
        memcpy(slot, extra, sizeof(*extra));
    else
        memcpy(slot, &response, sizeof(response));
}

void rx_attach(struct net_engine *e)
{
    e->max_rx_slots = e->link.can_sg ? MAX_RX_SLOTS : 1;
    e->held_bytes = 0;
    e->is_starved = e->is_rx_short = e->has_read_all = false;
}

void rx_detach(struct net_engine *e)
{
    for (uint32_t i = 0; i < nr_buffers(e); i++)
        unmap(e, buffer_at(e, i));
}

/* --- packets ----------------------------------------------------------------- */

/* XEN_NETIF_GSO_TYPE_* of a packet from the tap. */
static uint8_t gso_type(const struct virtio_net_hdr *header)
{
    switch (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return XEN_NETIF_GSO_TYPE_TCPV4;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return XEN_NETIF_GSO_TYPE_TCPV6;
    default:
        return XEN_NETIF_GSO_TYPE_NONE;
    }
}

static uint16_t first_flags(const struct virtio_net_hdr *header)
{
    if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        return NETRXF_csum_blank | NETRXF_data_validated;
    return header->flags & VIRTIO_NET_HDR_F_DATA_VALID ? NETRXF_data_validated
                                                       : 0;
}

static uint32_t bytes_in(uint32_t bytes, uint32_t i)
{
    return bytes - i * PAGE_BYTES < PAGE_BYTES ? bytes - i * PAGE_BYTES
                                               : PAGE_BYTES;
}

/* Buffers of a packet: part i is in the i-th, after a GSO extra in the next. */
static uint32_t buffer_of(uint32_t part, bool has_extra)
{
    return part && has_extra ? part + 1 : part;
}

/* Have the guest see a packet that is in its buffers. */
static void publish(struct net_engine *e, const struct virtio_net_hdr *header,
                    uint32_t bytes)
{
    struct netif_extra_info extra = {.type = XEN_NETIF_EXTRA_TYPE_GSO};
    uint32_t nr_parts = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    uint16_t flags = first_flags(header);

    extra.u.gso.type = gso_type(header);
    extra.u.gso.size = header->gso_size;
    if (extra.u.gso.type != XEN_NETIF_GSO_TYPE_NONE) {
        flags |= NETRXF_extra_info;
        COUNT(e, rx_gso, 1);
    }
    for (uint32_t i = 0; i < nr_parts; i++) {
        if (i + 1 < nr_parts)
            flags |= NETRXF_more_data;
        answer(e, flags, (int16_t)bytes_in(bytes, i), NULL);
        if (flags & NETRXF_extra_info)
            answer(e, 0, 0, &extra);
        flags = 0;
    }
    COUNT(e, rx_packets, 1);
    COUNT(e, rx_bytes, bytes);
}

/* Are these buffers there, all of them? */
static bool are_good(struct net_engine *e, uint32_t nr)
{
    for (uint32_t i = 0; i < nr; i++) {
        if (!buffer_at(e, i)->page)
            return false;
    }
    return true;
}

static void drop(struct net_engine *e)
{
    COUNT(e, rx_dropped, 1);
}

/*
 * Give the guest the packet in e->bounce. False: it has not the buffers for it
 * yet.
 */
static bool deliver_bounce(struct net_engine *e, uint32_t bytes)
{
    const struct virtio_net_hdr *header = &e->bounce_header;
    bool has_extra = gso_type(header) != XEN_NETIF_GSO_TYPE_NONE;
    uint32_t nr_parts = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    uint32_t nr = nr_parts + has_extra;

    if (filter_is_active(e->filter) &&
        filter_blocks(e->filter, (uint8_t *)e->bounce)) {
        COUNT(e, rx_filtered, 1);
        return true;
    }
    if (nr > e->max_rx_slots) {
        drop(e);
        return true;
    }
    if (nr > nr_buffers(e))
        return false;
    if (!are_good(e, nr)) {
        while (nr--)
            answer(e, 0, NETIF_RSP_ERROR, NULL);
        drop(e);
        return true;
    }
    for (uint32_t i = 0; i < nr_parts; i++)
        memcpy(buffer_at(e, buffer_of(i, has_extra))->page,
               e->bounce + i * PAGE_BYTES, bytes_in(bytes, i));
    publish(e, header, bytes);
    return true;
}

static ssize_t read_bounce(struct net_engine *e)
{
    struct iovec iov[] = {{&e->bounce_header, sizeof(e->bounce_header)},
                          {e->bounce, sizeof(e->bounce)}};

    return readv(e->link.fd, iov, 2);
}

/*
 * Read into the guest's own buffers. The second is left out where a packet may
 * need it for its GSO: whether it has any is known only afterwards.
 */
static ssize_t read_direct(struct net_engine *e, struct virtio_net_hdr *header)
{
    struct iovec iov[1 + MAX_RX_SLOTS] = {{header, sizeof(*header)}};
    bool is_apart = e->link.gso;
    uint32_t nr_parts = e->max_rx_slots - is_apart;

    for (uint32_t i = 0; i < nr_parts; i++)
        iov[1 + i] = (struct iovec){buffer_at(e, buffer_of(i, is_apart))->page,
                                    PAGE_BYTES};
    return readv(e->link.fd, iov, (int)nr_parts + 1);
}

/* Give the guest what read_direct() has put where it now is. */
static void deliver_direct(struct net_engine *e,
                           const struct virtio_net_hdr *header, uint32_t bytes)
{
    uint32_t nr_parts = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;

    /* A large frame without GSO: its parts move up by one. */
    if (e->link.gso && gso_type(header) == XEN_NETIF_GSO_TYPE_NONE) {
        for (uint32_t i = 1; i < nr_parts; i++)
            memcpy(buffer_at(e, i)->page, buffer_at(e, i + 1)->page,
                   bytes_in(bytes, i));
    }
    publish(e, header, bytes);
}

/* The next packet. False: there is none, or no buffers for it. */
static bool take_packet(struct net_engine *e)
{
    /* A read that is too short cuts the packet: there is room for any. */
    bool is_direct = e->link.can_sg && nr_buffers(e) == e->max_rx_slots &&
                     !filter_is_active(e->filter) &&
                     are_good(e, e->max_rx_slots);
    struct virtio_net_hdr header;
    ssize_t got = is_direct ? read_direct(e, &header) : read_bounce(e);
    uint32_t bytes;

    if (got < 0) {
        if (errno == EBADFD || errno == EIO)
            e->why = NET_EXIT_TAP_LOST;
        e->has_read_all = true;
        return false;
    }
    if (got < (ssize_t)(sizeof(header) + PACKET_ETH_BYTES)) {
        drop(e);
        return true;
    }
    bytes = (uint32_t)got - (uint32_t)sizeof(header);
    if (is_direct) {
        deliver_direct(e, &header, bytes);
        return true;
    }
    if (deliver_bounce(e, bytes))
        return true;
    e->held_bytes = bytes;
    return false;
}

int rx_take(struct net_engine *e)
{
    bool was_starved = e->is_starved;

    e->is_starved = e->has_read_all = false;
    for (int i = 0; i < BUDGET && !e->why; i++) {
        if (top_up(e))
            return -EPROTO;
        if (e->held_bytes && deliver_bounce(e, e->held_bytes)) {
            e->held_bytes = 0;
            ring_store(&e->rx);
        }
        e->is_starved = e->held_bytes || !nr_buffers(e);
        if (e->is_starved || !take_packet(e))
            break;
        ring_store(&e->rx);
        if (e->rx.rsp_prod - e->rx.rsp_notified >= MAX_UNPUBLISHED)
            publish_answers(e);
    }
    e->is_starved |= e->held_bytes != 0;
    if (e->is_starved && !was_starved)
        COUNT(e, rx_starved, 1);
    if (e->is_rx_short)
        COUNT(e, shortages, 1);
    return 0;
}

bool rx_is_starved(struct net_engine *e)
{
    return e->is_starved && (e->is_rx_short || ring_is_quiet(&e->rx));
}
