/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the guest to the tap. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "filter.h"
#include "limit.h"
#include "packet.h"
#include "state.h"

/* A packet may have so many slots; a frontend of old one or two more, which
 * is refused. Beyond that it is no frontend's mistake (xen-netback does so). */
#define MAX_SLOTS XEN_NETIF_NR_SLOTS_MIN
#define FATAL_SLOTS 20
#define MAX_EXTRAS (XEN_NETIF_EXTRA_TYPE_MAX - 1)

/* A packet's slots, copied. */
struct slots {
    struct netif_tx_request data[FATAL_SLOTS];
    struct netif_extra_info extra[XEN_NETIF_EXTRA_TYPE_MAX]; /* by type */
    uint32_t nr_data, nr_extras;
    uint32_t extra_types; /* a bit for each that is there */
    uint32_t total_bytes;
};

/* --- the slots --------------------------------------------------------------- */

static int gather_extras(struct net_engine *e, uint32_t *at, uint32_t prod,
                         struct slots *slots)
{
    struct netif_extra_info extra;

    do {
        if (*at == prod || slots->nr_extras == MAX_EXTRAS)
            return -EPROTO;
        memcpy(&extra, ring_slot(&e->tx, *at), sizeof(extra));
        if (extra.type == XEN_NETIF_EXTRA_TYPE_NONE ||
            extra.type >= XEN_NETIF_EXTRA_TYPE_MAX)
            return -EPROTO;
        slots->extra[extra.type] = extra;
        slots->extra_types |= 1U << extra.type;
        slots->nr_extras++;
        (*at)++;
    } while (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
    return 0;
}

/*
 * Copy the slots of the next packet, once, without taking them. -EPROTO: they
 * have no end, or not the end that the index says.
 */
static int gather(struct net_engine *e, uint32_t prod, struct slots *slots)
{
    struct netif_tx_request *request = slots->data;
    uint32_t at = e->tx.req_cons;

    memcpy(request, ring_slot(&e->tx, at++), sizeof(*request));
    slots->nr_data = 1;
    slots->nr_extras = slots->extra_types = 0;
    slots->total_bytes = request->size;
    if (request->flags & NETTXF_extra_info &&
        gather_extras(e, &at, prod, slots))
        return -EPROTO;
    while (request->flags & NETTXF_more_data) {
        if (at == prod || slots->nr_data == FATAL_SLOTS)
            return -EPROTO;
        request = &slots->data[slots->nr_data++];
        memcpy(request, ring_slot(&e->tx, at++), sizeof(*request));
    }
    return 0;
}

static void respond(struct net_engine *e, uint16_t id, int16_t status)
{
    struct netif_tx_response response = {id, status};

    memcpy(ring_slot(&e->tx, e->tx.rsp_prod++), &response, sizeof(response));
}

/* Take a packet's slots for good, and answer each. */
static void answer(struct net_engine *e, const struct slots *slots,
                   int16_t status)
{
    e->tx.req_cons += slots->nr_data + slots->nr_extras;
    respond(e, slots->data[0].id, status);
    for (uint32_t i = 0; i < slots->nr_extras; i++)
        respond(e, 0, NETIF_RSP_NULL);
    for (uint32_t i = 1; i < slots->nr_data; i++)
        respond(e, slots->data[i].id, status);
}

/*
 * Was this slot answered already? Its own id is behind the answer's. A grant
 * that looks like one is taken for one: that loses a packet.
 */
static bool is_answered(const struct netif_tx_request *request)
{
    struct netif_tx_response response;

    _Static_assert(offsetof(struct netif_tx_request, id) >= sizeof(response),
                   "an answer leaves the id");
    memcpy(&response, request, sizeof(response));
    return response.id == request->id && response.status <= NETIF_RSP_OKAY &&
           response.status >= NETIF_RSP_DROPPED;
}

/* Answer the slots of extras; where they end. */
static uint32_t finish_extras(struct net_engine *e, uint32_t at, uint32_t prod)
{
    struct netif_extra_info extra = {.flags = XEN_NETIF_EXTRA_FLAG_MORE};

    while (at != prod && extra.flags & XEN_NETIF_EXTRA_FLAG_MORE) {
        memcpy(&extra, ring_slot(&e->tx, at++), sizeof(extra));
        respond(e, 0, NETIF_RSP_NULL);
    }
    return at;
}

void tx_attach(struct net_engine *e)
{
    uint32_t at = e->tx.req_cons, prod;
    struct netif_tx_request request = {.flags = NETTXF_more_data};
    bool is_first = true;

    if (ring_producer(&e->tx, &prod))
        return;
    while (at != prod && request.flags & NETTXF_more_data) {
        memcpy(&request, ring_slot(&e->tx, at), sizeof(request));
        if (is_first && !is_answered(&request))
            return;
        at++;
        respond(e, request.id, NETIF_RSP_DROPPED);
        if (is_first && request.flags & NETTXF_extra_info)
            at = finish_extras(e, at, prod);
        is_first = false;
    }
    e->tx.req_cons = at;
    ring_store(&e->tx);
}

/*
 * Do the sizes add up? The first slot's is the whole packet's; it is made its
 * own here.
 */
static bool has_sane_sizes(struct slots *slots)
{
    uint32_t left = slots->total_bytes;

    if (slots->nr_data > MAX_SLOTS || left < PACKET_ETH_BYTES)
        return false;
    for (uint32_t i = 1; i < slots->nr_data; i++) {
        if (slots->data[i].size > left)
            return false;
        left -= slots->data[i].size;
    }
    slots->data[0].size = (uint16_t)left;
    for (uint32_t i = 0; i < slots->nr_data; i++) {
        if ((uint32_t)slots->data[i].offset + slots->data[i].size > PAGE_BYTES)
            return false;
    }
    return true;
}

/* --- the packet -------------------------------------------------------------- */

/* As granted_map(). */
static int map(struct net_engine *e, const struct slots *slots,
               struct granted *granted, void **page)
{
    uint32_t refs[MAX_SLOTS];

    for (uint32_t i = 0; i < slots->nr_data; i++) {
        refs[i] = slots->data[i].gref;
        /* Nobody sends from the pages of console and store. */
        if (refs[i] < GNTTAB_NR_RESERVED_ENTRIES)
            return -EINVAL;
    }
    return granted_map(e->xgt, e->ids.domid, refs, slots->nr_data, PROT_READ,
                       granted, page);
}

/*
 * Headers are copied, once, and are what is checked and sent; the rest is
 * written from where it is. Fills iov[] from 2 on; how many there are.
 */
static int split(const struct slots *slots, void *const *page,
                 struct packet *packet, struct iovec *iov)
{
    int nr_iov = 0;

    packet->head_bytes = 0;
    for (uint32_t i = 0; i < slots->nr_data; i++) {
        char *from = (char *)page[i] + slots->data[i].offset;
        uint32_t bytes = slots->data[i].size;
        uint32_t fit = PACKET_HEAD_BYTES - packet->head_bytes;

        if (fit > bytes)
            fit = bytes;
        memcpy(packet->head + packet->head_bytes, from, fit);
        packet->head_bytes += fit;
        from += fit;
        bytes -= fit;
        /* Pages that are neighbours are one to the kernel. */
        if (bytes && nr_iov &&
            (char *)iov[nr_iov - 1].iov_base + iov[nr_iov - 1].iov_len == from)
            iov[nr_iov - 1].iov_len += bytes;
        else if (bytes)
            iov[nr_iov++] = (struct iovec){from, bytes};
    }
    return nr_iov;
}

static int16_t write_packet(struct net_engine *e, struct packet *packet,
                            struct virtio_net_hdr *header, struct iovec *iov,
                            int nr_iov)
{
    iov[0] = (struct iovec){header, sizeof(*header)};
    iov[1] = (struct iovec){packet->head, packet->head_bytes};
    if (writev(e->link.fd, iov, nr_iov + 2) < 0) {
        if (errno == EBADFD)
            e->why = NET_EXIT_TAP_LOST;
        COUNT(e, tx_dropped, 1);
        return NETIF_RSP_DROPPED;
    }
    COUNT(e, tx_packets, 1);
    COUNT(e, tx_bytes, packet->total_bytes);
    COUNT(e, tx_gso, header->gso_type != VIRTIO_NET_HDR_GSO_NONE);
    return NETIF_RSP_OKAY;
}

/* False: the host is short of memory for it, and nothing was done. */
static bool send_packet(struct net_engine *e, struct slots *slots,
                        int16_t *status)
{
    const struct netif_extra_info *gso =
        &slots->extra[XEN_NETIF_EXTRA_TYPE_GSO];
    struct packet packet; /* no initialiser: it would clear head[] each time */
    struct iovec iov[2 + MAX_SLOTS];
    struct virtio_net_hdr header;
    struct granted granted;
    void *page[MAX_SLOTS];
    int nr_iov, rc;

    *status = NETIF_RSP_ERROR;
    if (!has_sane_sizes(slots))
        return true;
    rc = map(e, slots, &granted, page);
    if (rc)
        return rc != -EAGAIN;
    packet.total_bytes = slots->total_bytes;
    packet.is_csum_blank = slots->data[0].flags & NETTXF_csum_blank;
    packet.gso_type = XEN_NETIF_GSO_TYPE_NONE;
    packet.gso_size = 0;
    if (slots->extra_types & 1U << XEN_NETIF_EXTRA_TYPE_GSO) {
        packet.gso_type = gso->u.gso.type;
        packet.gso_size = gso->u.gso.size;
    }
    nr_iov = split(slots, page, &packet, iov + 2);
    if (packet_offload(&packet, &header))
        *status = write_packet(e, &packet, &header, iov, nr_iov);
    granted_unmap(e->xgt, &granted);
    return true;
}

/* A request that only changes the filter sends nothing. */
static bool changes_filter(struct net_engine *e, const struct slots *slots,
                           int16_t *status)
{
    const struct netif_extra_info *extra = slots->extra;
    bool is_done;

    if (slots->extra_types & 1U << XEN_NETIF_EXTRA_TYPE_MCAST_ADD)
        is_done = filter_add(
            e->filter, extra[XEN_NETIF_EXTRA_TYPE_MCAST_ADD].u.mcast.addr);
    else if (slots->extra_types & 1U << XEN_NETIF_EXTRA_TYPE_MCAST_DEL)
        is_done = filter_remove(
            e->filter, extra[XEN_NETIF_EXTRA_TYPE_MCAST_DEL].u.mcast.addr);
    else
        return false;
    *status = is_done ? NETIF_RSP_OKAY : NETIF_RSP_ERROR;
    return true;
}

int tx_take(struct net_engine *e)
{
    struct slots slots;
    uint32_t prod;
    int16_t status;

    e->is_throttled = false;
    if (ring_producer(&e->tx, &prod))
        return -EPROTO;
    for (int i = 0; i < BUDGET && e->tx.req_cons != prod && !e->why; i++) {
        if (gather(e, prod, &slots))
            return -EPROTO;
        if (!limit_take(e->limit, slots.total_bytes, &e->retry_ns)) {
            COUNT(e, tx_throttled, 1);
            e->is_throttled = true;
            break;
        }
        if (!changes_filter(e, &slots, &status) &&
            !send_packet(e, &slots, &status)) {
            limit_give_back(e->limit, slots.total_bytes);
            COUNT(e, shortages, 1);
            e->retry_ns = now_ns() + GRANTED_RETRY_NS;
            e->is_throttled = true;
            break;
        }
        if (status == NETIF_RSP_ERROR)
            COUNT(e, tx_refused, 1);
        answer(e, &slots, status);
        ring_store(&e->tx);
        if (e->tx.rsp_prod - e->tx.rsp_notified >= MAX_UNPUBLISHED)
            publish_answers(e);
    }
    return 0;
}
