/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network engine on rings that the input fills: an octet of flags, one of
 * requests claimed in each ring, one of how long a frame comes for the guest;
 * then a page of slots of the one ring, a quarter of one of the other, and the
 * pages that they name.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xen/grant_table.h>
#include <xen/io/netif.h>

#include "netbackd/csrc/engine.h"
#include "tests/native/blk_fakes.h"

#define TX_RING 60
#define RX_RING 61
#define TX_DATA 8
#define SLOTS_AT 64
#define TX_BYTES 768
#define RX_BYTES 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct net_engine *engine;
static struct net_filter filter;
static int tap[2];

static char *page(unsigned int number)
{
    return fake_memory + number * 4096L;
}

static void begin(void)
{
    struct net_limit *limit = net_limit_new();

    engine = net_new(&filter, limit);
    if (!limit || !engine ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, tap))
        abort();
    fake_domain_new();
}

static size_t put(char *to, const uint8_t **data, size_t *bytes, size_t most)
{
    if (most > *bytes)
        most = *bytes;
    memcpy(to, *data, most);
    *data += most;
    *bytes -= most;
    return most;
}

static void drain(void)
{
    static char frame[70000];

    while (recv(tap[1], frame, sizeof(frame), 0) >= 0)
        ;
    while (recv(tap[0], frame, sizeof(frame), 0) >= 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct net_ring ring = {5, TX_RING, RX_RING, FAKE_PORT, FAKE_PORT};
    struct net_link link = {0};
    netif_tx_sring_t *tx;
    netif_rx_sring_t *rx;
    static uint8_t frame[16384];
    struct net_exit out;
    uint32_t tx_prod, rx_prod, frame_bytes;

    if (bytes < 4)
        return 0;
    if (!engine)
        begin();
    link.fd = tap[0];
    link.can_sg = data[0] & 1;
    link.gso = data[0] >> 1 & 3;
    link.has_rx_notify = data[0] >> 3 & 1;
    fake_nr_granted = data[0] & 16 ? 40 : FAKE_PAGES;
    if (fake_nr_granted == 40)
        ring.tx_ref = 38, ring.rx_ref = 39;
    tx_prod = data[1];
    rx_prod = data[2];
    frame_bytes = data[3] * 64U;
    data += 4;
    bytes -= 4;
    memset(&filter, 0, sizeof(filter));
    memset(fake_memory, 0, FAKE_PAGES * 4096L);
    put(page(ring.tx_ref) + SLOTS_AT, &data, &bytes, TX_BYTES);
    put(page(ring.rx_ref) + SLOTS_AT, &data, &bytes, RX_BYTES);
    memcpy(frame, data, bytes < sizeof(frame) ? bytes : sizeof(frame));
    put(page(TX_DATA), &data, &bytes, 4096);
    tx = (void *)page(ring.tx_ref);
    rx = (void *)page(ring.rx_ref);
    tx->req_prod = tx_prod;
    rx->req_prod = rx_prod;
    if (net_attach(engine, &ring, &link))
        abort();
    if (frame_bytes)
        send(tap[1], frame, frame_bytes, 0);
    for (int i = 0; i < 2; i++) {
        net_kick(engine);
        if (net_run(engine, &out))
            abort();
    }
    net_quiesce(engine);
    if (fake_nr_mapped)
        abort();
    drain();
    return 0;
}
