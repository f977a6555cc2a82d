/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Headers that are to be offloaded, true ones and all others. */
#include "tests/native/harness.h"

#include <string.h>

#include <xen/grant_table.h>
#include <xen/io/netif.h>

#include "netbackd/csrc/packet.h"

static struct packet packet;
static struct virtio_net_hdr header;

/* TCP over IPv4 with so much payload, at most all of it in the head. */
static void tcp4(uint32_t payload_bytes)
{
    uint32_t bytes = 54 + payload_bytes;
    uint8_t *head = packet.head;

    memset(&packet, 0, sizeof(packet));
    packet.total_bytes = bytes;
    packet.head_bytes = bytes < PACKET_HEAD_BYTES ? bytes : PACKET_HEAD_BYTES;
    packet.is_csum_blank = true;
    head[12] = 8;
    head[14] = 0x45;
    head[16] = (uint8_t)((bytes - 14) >> 8);
    head[17] = (uint8_t)(bytes - 14);
    head[23] = 6;
    memcpy(head + 26, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
    head[46] = 5 << 4;
}

TEST(a_checksum_is_where_the_headers_say)
{
    uint32_t sum = 6 + 20 + 100 + 0x0a00 * 2 + 1 + 2;

    tcp4(100);
    CHECK(packet_offload(&packet, &header));
    CHECK_EQ(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    CHECK_EQ(header.csum_start, 34);
    CHECK_EQ(header.csum_offset, 16);
    CHECK_EQ(header.gso_type, VIRTIO_NET_HDR_GSO_NONE);
    CHECK_EQ(packet.head[50] << 8 | packet.head[51], sum);
    packet.head[23] = 17;
    CHECK(packet_offload(&packet, &header));
    CHECK_EQ(header.csum_offset, 6);
}

TEST(behind_two_tags_and_no_more)
{
    static const uint8_t tag[] = {0x81, 0, 0, 7};

    tcp4(100);
    for (int tags = 1; tags <= 3; tags++) {
        memmove(packet.head + 16, packet.head + 12, 200);
        memcpy(packet.head + 12, tag, 4);
        packet.total_bytes += 4;
        packet.head_bytes += 4;
        CHECK_EQ(packet_offload(&packet, &header), tags < 3);
        if (tags < 3)
            CHECK_EQ(header.csum_start, 34 + 4 * tags);
    }
}

TEST(what_is_cut)
{
    tcp4(30000);
    packet.gso_type = XEN_NETIF_GSO_TYPE_TCPV4;
    packet.gso_size = 1448;
    CHECK(packet_offload(&packet, &header));
    CHECK_EQ(header.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
    CHECK_EQ(header.gso_size, 1448);
    CHECK_EQ(header.hdr_len, 54);
    packet.head[47] = 0x80; /* CWR */
    CHECK(packet_offload(&packet, &header));
    CHECK_EQ(header.gso_type,
             VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN);
    /* One that fits is left whole. */
    packet.gso_size = 30000;
    CHECK(packet_offload(&packet, &header));
    CHECK_EQ(header.gso_type, VIRTIO_NET_HDR_GSO_NONE);
}

TEST(lies)
{
    tcp4(30000);
    packet.gso_type = XEN_NETIF_GSO_TYPE_TCPV6;
    packet.gso_size = 1448;
    CHECK(!packet_offload(&packet, &header));
    packet.gso_type = XEN_NETIF_GSO_TYPE_TCPV4;
    packet.total_bytes++;
    CHECK(!packet_offload(&packet, &header));
    packet.total_bytes -= 2;
    CHECK(!packet_offload(&packet, &header));
    packet.total_bytes++;
    packet.head[46] = 4 << 4;
    CHECK(!packet_offload(&packet, &header));
    packet.head[46] = 15 << 4;
    CHECK(packet_offload(&packet, &header));
    packet.head[14] = 0x44;
    CHECK(!packet_offload(&packet, &header));
    packet.head[14] = 0x45;
    packet.head[20] = 0x20; /* a fragment */
    CHECK(!packet_offload(&packet, &header));
}

TEST(ipv4_options)
{
    tcp4(100);
    memmove(packet.head + 34 + 40, packet.head + 34, 100);
    memset(packet.head + 34, 1, 40);
    packet.total_bytes += 40;
    packet.head_bytes += 40;
    packet.head[14] = 0x4f;
    packet.head[17] += 40;
    CHECK(packet_offload(&packet, &header));
    CHECK_EQ(header.csum_start, 34 + 40);
    /* Options beyond the end, and a header inside of the fixed one. */
    packet.head_bytes = 34 + 40 + 19;
    CHECK(!packet_offload(&packet, &header));
    packet.head_bytes = 154;
    packet.head[14] = 0x44;
    CHECK(!packet_offload(&packet, &header));
}

/* UDP over IPv6 behind so many headers of 8 bytes, all of a kind. */
static void udp6(uint8_t kind, uint32_t nr_headers)
{
    uint8_t *head = packet.head;
    uint32_t bytes = 8 * nr_headers + 8 + 20;

    memset(&packet, 0, sizeof(packet));
    packet.total_bytes = packet.head_bytes = 54 + bytes;
    packet.is_csum_blank = true;
    head[12] = 0x86;
    head[13] = 0xdd;
    head[14] = 0x60;
    head[19] = (uint8_t)bytes;
    head[20] = nr_headers ? kind : 17;
    for (uint32_t i = 0; i < nr_headers; i++)
        head[54 + 8 * i] = i + 1 < nr_headers ? kind : 17;
}

TEST(ipv6_headers)
{
    static const uint8_t known[] = {0, 43, 60};
    static const uint8_t others[] = {44, 50, 51, 59, 135};

    for (size_t i = 0; i < sizeof(known); i++) {
        for (uint32_t nr = 0; nr <= 10; nr++) {
            udp6(known[i], nr);
            CHECK_EQ(packet_offload(&packet, &header), nr <= 8);
            if (nr <= 8)
                CHECK_EQ(header.csum_start, 54 + 8 * nr);
        }
        /* Longer than all there is, and the next one behind the end. */
        udp6(known[i], 1);
        packet.head[55] = 255;
        CHECK(!packet_offload(&packet, &header));
        udp6(known[i], 2);
        packet.head[63] = 3;
        CHECK(!packet_offload(&packet, &header));
    }
    for (size_t i = 0; i < sizeof(others); i++) {
        udp6(others[i], 1);
        CHECK(!packet_offload(&packet, &header));
    }
    /* A jumbogram says no length. */
    udp6(0, 1);
    packet.head[19] = 0;
    CHECK(!packet_offload(&packet, &header));
}

/* Whatever the headers are: what is said of them is inside of them. */
static void check_said(void)
{
    uint32_t field = header.csum_start + header.csum_offset + 2U;

    if (header.flags)
        CHECK(field <= packet.head_bytes && field <= packet.total_bytes);
    if (header.gso_type) {
        CHECK(header.gso_size > 0 && header.hdr_len >= field);
        CHECK(header.hdr_len <= packet.head_bytes);
        CHECK(packet.total_bytes - header.hdr_len > header.gso_size);
    }
}

TEST(any_headers)
{
    uint64_t state = 42;
    unsigned int nr_true = 0;

    for (int i = 0; i < 1000000; i++) {
        uint64_t word = random64(&state);

        tcp4((uint32_t)(word % 1000));
        packet.is_csum_blank = word >> 20 & 1;
        packet.gso_type = (uint8_t)(word >> 21 & 3);
        packet.gso_size = (uint16_t)(word >> 24);
        if (word >> 40 & 1) {
            packet.head[12] = 0x86;
            packet.head[13] = 0xdd;
            packet.head[14] = 0x60;
            packet.head[20] = (uint8_t)(word >> 41 & 63);
        }
        for (int j = 0; j < (int)(word >> 60); j++) {
            uint64_t change = random64(&state);

            packet.head[change % 80] = (uint8_t)(change >> 8);
        }
        if (word >> 50 & 1)
            packet.head_bytes = (uint32_t)(word >> 51) % 100;
        if (packet.head_bytes > packet.total_bytes)
            packet.head_bytes = packet.total_bytes;
        if (packet_offload(&packet, &header)) {
            check_said();
            nr_true++;
        }
    }
    CHECK(nr_true > 1000 && nr_true < 999000);
}
