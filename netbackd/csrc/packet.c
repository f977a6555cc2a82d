/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "packet.h"

#include <stddef.h>
#include <string.h>

#include <xen/grant_table.h>
#include <xen/io/netif.h>

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_QINQ 0x88a8
#define MAX_VLAN_TAGS 2
#define MAX_IPV6_HEADERS 8

#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_DESTINATION 60
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define TCP_FLAG_CWR 0x80

/* Where things are, in bytes from the packet's first. */
struct layout {
    uint32_t addresses; /* source, then destination */
    uint32_t addresses_bytes;
    uint32_t transport;
    uint32_t end; /* as the network header says */
    uint8_t protocol;
    uint8_t gso_type; /* what TCP of this family would be */
};

static uint16_t get16(const struct packet *packet, uint32_t at)
{
    return (uint16_t)(packet->head[at] << 8 | packet->head[at + 1]);
}

static bool has(const struct packet *packet, uint64_t end)
{
    return end <= packet->head_bytes;
}

static bool find_ipv4(const struct packet *packet, uint32_t at,
                      struct layout *layout)
{
    uint32_t header_bytes;

    if (!has(packet, at + 20) || packet->head[at] >> 4 != 4)
        return false;
    header_bytes = (packet->head[at] & 15U) * 4;
    /* Part of a packet has no checksum of its own. */
    if (header_bytes < 20 || get16(packet, at + 6) & 0x3fff)
        return false;
    *layout = (struct layout){
        .addresses = at + 12,
        .addresses_bytes = 8,
        .transport = at + header_bytes,
        .end = at + get16(packet, at + 2),
        .protocol = packet->head[at + 9],
        .gso_type = XEN_NETIF_GSO_TYPE_TCPV4,
    };
    return true;
}

static bool find_ipv6(const struct packet *packet, uint32_t at,
                      struct layout *layout)
{
    uint32_t next = at + 40;
    uint8_t protocol;

    if (!has(packet, next) || packet->head[at] >> 4 != 6)
        return false;
    protocol = packet->head[at + 6];
    for (int i = 0; i < MAX_IPV6_HEADERS; i++) {
        if (protocol != IPV6_HOP_BY_HOP && protocol != IPV6_ROUTING &&
            protocol != IPV6_DESTINATION)
            break;
        if (!has(packet, next + 2))
            return false;
        protocol = packet->head[next];
        next += (packet->head[next + 1] + 1U) * 8;
    }
    *layout = (struct layout){
        .addresses = at + 8,
        .addresses_bytes = 32,
        .transport = next,
        .end = at + 40 + get16(packet, at + 4),
        .protocol = protocol,
        .gso_type = XEN_NETIF_GSO_TYPE_TCPV6,
    };
    return true;
}

static bool find(const struct packet *packet, struct layout *layout)
{
    uint32_t at = PACKET_ETH_BYTES;
    uint16_t type;

    if (!has(packet, at))
        return false;
    type = get16(packet, at - 2);
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        if (type != ETHERTYPE_VLAN && type != ETHERTYPE_QINQ)
            break;
        at += 4;
        if (!has(packet, at))
            return false;
        type = get16(packet, at - 2);
    }
    if (type == ETHERTYPE_IPV4)
        return find_ipv4(packet, at, layout);
    return type == ETHERTYPE_IPV6 && find_ipv6(packet, at, layout);
}

/* One's complement sum of the pseudo header, folded and not inverted. */
static uint16_t pseudo_sum(const struct packet *packet,
                           const struct layout *layout)
{
    uint32_t sum = layout->protocol + (layout->end - layout->transport);

    for (uint32_t i = 0; i < layout->addresses_bytes; i += 2)
        sum += get16(packet, layout->addresses + i);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* What stands before the payload; 0: that is no TCP or UDP header. */
static uint32_t headers_end(const struct packet *packet,
                            const struct layout *layout)
{
    uint32_t at = layout->transport, bytes = 8;

    if (layout->protocol == PROTOCOL_TCP) {
        if (!has(packet, at + 20))
            return 0;
        bytes = (packet->head[at + 12] >> 4) * 4U;
        if (bytes < 20)
            return 0;
    } else if (layout->protocol != PROTOCOL_UDP) {
        return 0;
    }
    /* Inside what the network header says, and that inside the packet. */
    if (!has(packet, at + bytes) || at + bytes > layout->end ||
        layout->end > packet->total_bytes)
        return 0;
    return at + bytes;
}

/* Fill in what a packet that is to be cut needs; false: it is none. */
static bool segment(const struct packet *packet, const struct layout *layout,
                    uint32_t payload, struct virtio_net_hdr *header)
{
    if (packet->gso_type != layout->gso_type ||
        layout->protocol != PROTOCOL_TCP || !packet->gso_size ||
        layout->end != packet->total_bytes)
        return false;
    /* One that is small enough as it is. */
    if (packet->total_bytes - payload <= packet->gso_size)
        return true;
    header->gso_type = packet->gso_type == XEN_NETIF_GSO_TYPE_TCPV4
                           ? VIRTIO_NET_HDR_GSO_TCPV4
                           : VIRTIO_NET_HDR_GSO_TCPV6;
    if (packet->head[layout->transport + 13] & TCP_FLAG_CWR)
        header->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    header->gso_size = packet->gso_size;
    header->hdr_len = (uint16_t)payload;
    return true;
}

bool packet_offload(struct packet *packet, struct virtio_net_hdr *header)
{
    struct layout layout;
    uint32_t payload, at;
    uint16_t sum;

    memset(header, 0, sizeof(*header));
    if (!packet->is_csum_blank && packet->gso_type == XEN_NETIF_GSO_TYPE_NONE)
        return true;
    if (!find(packet, &layout))
        return false;
    payload = headers_end(packet, &layout);
    if (!payload)
        return false;
    if (packet->gso_type != XEN_NETIF_GSO_TYPE_NONE &&
        !segment(packet, &layout, payload, header))
        return false;
    header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    header->csum_start = (uint16_t)layout.transport;
    header->csum_offset = layout.protocol == PROTOCOL_TCP ? 16 : 6;
    /* Not every frontend writes it. */
    sum = pseudo_sum(packet, &layout);
    at = layout.transport + header->csum_offset;
    packet->head[at] = (uint8_t)(sum >> 8);
    packet->head[at + 1] = (uint8_t)sum;
    return true;
}
