/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Headers that are to be offloaded: what is said of them is in the packet. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <xen/grant_table.h>
#include <xen/io/netif.h>

#include "netbackd/csrc/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct virtio_net_hdr header;
    struct packet packet = {0};

    if (bytes < 6)
        return 0;
    packet.is_csum_blank = data[0] & 1;
    packet.gso_type = data[0] >> 1 & 3;
    memcpy(&packet.gso_size, data + 1, 2);
    packet.total_bytes = (uint32_t)(bytes - 5) + data[3] * 256U;
    data += 5;
    bytes -= 5;
    packet.head_bytes =
        bytes < sizeof(packet.head) ? (uint32_t)bytes : sizeof(packet.head);
    memcpy(packet.head, data, packet.head_bytes);
    if (packet.total_bytes < packet.head_bytes)
        return 0;
    if (!packet_offload(&packet, &header))
        return 0;
    if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM &&
        header.csum_start + header.csum_offset + 2U > packet.total_bytes)
        abort();
    if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE &&
        (!header.gso_size || header.hdr_len > packet.total_bytes))
        abort();
    return 0;
}
