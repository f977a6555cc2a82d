/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a packet's headers say, for the offloads that a frontend asks for. All
 * of it is arithmetic on a copy: nothing here touches shared memory.
 */
#ifndef NETBACKD_PACKET_H
#define NETBACKD_PACKET_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#define PACKET_ETH_BYTES 14
/* More than any headers that are offloaded have. */
#define PACKET_HEAD_BYTES 256

struct packet {
    uint8_t head[PACKET_HEAD_BYTES];
    uint32_t head_bytes; /* as much of the packet as is in head */
    uint32_t total_bytes;
    bool is_csum_blank;
    uint8_t gso_type; /* XEN_NETIF_GSO_TYPE_*, NONE: one packet as it is */
    uint16_t gso_size;
};

/*
 * Say to a tap what is left to do with a packet. The checksum field of one
 * that needs it gets the pseudo header's sum, as the kernel wants it.
 *
 * False: it cannot be done, because its headers are no TCP or UDP, end early,
 * or do not add up.
 */
bool packet_offload(struct packet *packet, struct virtio_net_hdr *header);

#endif
