/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The network engine on a socket in place of a tap, with a hostile frontend. */
#define _GNU_SOURCE
#include "tests/native/harness.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/virtio_net.h>
#include <xen/grant_table.h>
#include <xen/io/netif.h>

#include "netbackd/csrc/engine.h"
#include "netbackd/csrc/limit.h"
#include "tests/native/blk_fakes.h"

/* Pages of the domain, granted as their numbers. */
#define TX_RING 60
#define RX_RING 61
#define TX_DATA 8
#define RX_DATA 30
#define NR_SLOTS 256
#define HEADER_BYTES ((ssize_t)sizeof(struct virtio_net_hdr))

static struct net_engine *engine;
static struct net_filter filter;
static struct net_limit *limit;
static netif_tx_sring_t *tx;
static netif_rx_sring_t *rx;
static int wire;
static unsigned char came[70000];

static char *page(unsigned int number)
{
    return fake_memory + number * 4096L;
}

static void fresh_rings(void)
{
    memset(page(TX_RING), 0, 8192);
    tx = (void *)page(TX_RING);
    rx = (void *)page(RX_RING);
    SHARED_RING_INIT(tx);
    SHARED_RING_INIT(rx);
}

static int tap(void)
{
    static int ends[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
    wire = ends[1];
    return ends[0];
}

static void attach(bool can_sg, uint8_t gso)
{
    struct net_ring ring = {.domid = 5,
                            .tx_ref = TX_RING,
                            .rx_ref = RX_RING,
                            .tx_port = FAKE_PORT,
                            .rx_port = FAKE_PORT};
    struct net_link link = {.can_sg = can_sg, .gso = gso};
    static int fd = -1;

    if (fd >= 0)
        close(fd);
    fd = link.fd = tap();
    fresh_rings();
    CHECK_EQ(net_attach(engine, &ring, &link), 0);
}

static void begin(void)
{
    fake_domain_new();
    memset(&filter, 0, sizeof(filter));
    limit = net_limit_new();
    engine = net_new(&filter, limit);
    CHECK(limit && engine);
    attach(true, NET_GSO_TCPV4 | NET_GSO_TCPV6);
}

static void detach(void)
{
    net_quiesce(engine);
    CHECK_EQ(fake_nr_mapped, 0);
    close(wire);
}

static void end(void)
{
    detach();
    net_free(engine);
    net_limit_free(limit);
    fake_domain_free();
}

/* One turn of the engine's loop, or as many as it likes. */
static uint32_t turn(void)
{
    struct net_exit out;

    net_kick(engine);
    CHECK_EQ(net_run(engine, &out), 0);
    return out.why;
}

static void put(uint32_t gref, uint16_t offset, uint16_t flags, uint16_t size)
{
    tx->ring[tx->req_prod % NR_SLOTS].req =
        (netif_tx_request_t){gref, offset, flags, 7, size};
    tx->req_prod++;
}

static void give(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = rx->req_prod % NR_SLOTS;

        rx->ring[at].req =
            (netif_rx_request_t){.id = (uint16_t)at, .gref = RX_DATA + at % 28};
        rx->req_prod++;
    }
}

TEST(a_packet_in_pieces)
{
    begin();
    memset(page(TX_DATA), 'a', 4096);
    memset(page(TX_DATA + 1), 'b', 4096);
    put(TX_DATA, 0, NETTXF_more_data, 1000);
    put(TX_DATA + 1, 4000, NETTXF_more_data, 96);
    put(TX_DATA, 100, 0, 804);
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(recv(wire, came, sizeof(came), 0), HEADER_BYTES + 1000);
    CHECK_EQ(came[HEADER_BYTES + 99], 'a');
    CHECK_EQ(came[HEADER_BYTES + 100], 'b');
    CHECK_EQ(came[HEADER_BYTES + 195], 'b');
    CHECK_EQ(came[HEADER_BYTES + 999], 'a');
    CHECK_EQ(tx->rsp_prod, 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(tx->ring[i].rsp.status, NETIF_RSP_OKAY);
    CHECK_EQ(fake_nr_mapped, 2);
    end();
}

/* Into buffers in place, and through the bounce buffer when they are few. */
TEST(a_packet_for_the_guest)
{
    static const uint32_t buffers[] = {200, 3};
    static unsigned char frame[10 + 9000];

    for (int i = 0; i < 2; i++) {
        begin();
        give(buffers[i]);
        for (int j = 10; j < 9010; j++)
            frame[j] = (unsigned char)(j / 100);
        CHECK_EQ(send(wire, frame, sizeof(frame), 0), (long)sizeof(frame));
        CHECK_EQ(turn(), NET_EXIT_KICKED);
        CHECK_EQ(rx->rsp_prod, 3);
        CHECK_EQ(rx->ring[0].rsp.status, 4096);
        CHECK_EQ(rx->ring[0].rsp.flags, NETRXF_more_data);
        CHECK_EQ(rx->ring[2].rsp.status, 808);
        CHECK_EQ(rx->ring[2].rsp.flags, 0);
        CHECK(!memcmp(page(RX_DATA), frame + 10, 4096));
        CHECK(!memcmp(page(RX_DATA + 1), frame + 4106, 4096));
        CHECK(!memcmp(page(RX_DATA + 2), frame + 8202, 808));
        end();
    }
}

TEST(a_packet_that_waits_for_buffers)
{
    static unsigned char frame[10 + 9000];
    struct net_statistics counters;

    begin();
    give(2);
    CHECK_EQ(send(wire, frame, sizeof(frame), 0), (long)sizeof(frame));
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(rx->rsp_prod, 0);
    net_statistics(engine, &counters);
    CHECK_EQ(counters.rx_starved, 1);
    give(1);
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(rx->rsp_prod, 3);
    end();
}

TEST(answers_of_one_that_was_killed_are_told_of)
{
    struct net_ring ring = {.domid = 5,
                            .tx_ref = TX_RING,
                            .rx_ref = RX_RING,
                            .tx_port = FAKE_PORT,
                            .rx_port = FAKE_PORT};
    struct net_link link = {.can_sg = true};

    begin();
    detach();
    link.fd = tap();
    /* It stored an answer; the frontend sleeps until it hears of it. */
    give(2);
    rx->rsp_prod = rx->rsp_event = 1;
    fake_nr_notified = 0;
    CHECK_EQ(net_attach(engine, &ring, &link), 0);
    CHECK_EQ(fake_nr_notified, 1);
    end();
    close(link.fd);
}

TEST(an_old_frontend_gets_what_it_can_take)
{
    static unsigned char frame[10 + 9000];
    struct net_statistics counters;

    begin();
    detach();
    attach(false, 0);
    give(100);
    CHECK_EQ(send(wire, frame, 9010, 0), 9010);
    CHECK_EQ(send(wire, frame, 1010, 0), 1010);
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(rx->rsp_prod, 1);
    CHECK_EQ(rx->ring[0].rsp.status, 1000);
    net_statistics(engine, &counters);
    CHECK_EQ(counters.rx_dropped, 1);
    end();
}

/* Each direction has its turn, however much the other has. */
TEST(neither_direction_waits_for_the_other)
{
    static unsigned char frame[10 + 60];

    begin();
    give(200);
    for (int i = 0; i < 200; i++)
        put(TX_DATA, 0, 0, 60);
    for (int i = 0; i < 70; i++)
        CHECK_EQ(send(wire, frame, sizeof(frame), 0), (long)sizeof(frame));
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(tx->rsp_prod, 64);
    CHECK_EQ(rx->rsp_prod, 64);
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(tx->rsp_prod, 128);
    CHECK_EQ(rx->rsp_prod, 70);
    end();
}

/* What comes for it stays with the tap. */
TEST(a_guest_without_buffers_still_sends)
{
    static unsigned char frame[10 + 60];
    struct net_statistics counters;

    begin();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(send(wire, frame, sizeof(frame), 0), (long)sizeof(frame));
    for (int i = 0; i < 3; i++) {
        put(TX_DATA, 0, 0, 60);
        CHECK_EQ(turn(), NET_EXIT_KICKED);
    }
    CHECK_EQ(tx->rsp_prod, 3);
    CHECK_EQ(rx->rsp_prod, 0);
    net_statistics(engine, &counters);
    CHECK_EQ(counters.rx_starved, 1);
    give(3);
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(rx->rsp_prod, 3);
    end();
}

static struct net_statistics counted(void)
{
    struct net_statistics counters;

    net_statistics(engine, &counters);
    return counters;
}

/* What a packet waits for is no error: it goes when the host has it. */
TEST(a_shortage_of_the_hosts_waits)
{
    begin();
    net_limit_set(limit, 100, 1000000000);
    memset(page(TX_DATA), 'x', 60);
    fake_nr_short = 2;
    put(TX_DATA, 0, 0, 60);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(turn(), NET_EXIT_KICKED);
        CHECK_EQ(tx->rsp_prod, 0);
    }
    /* It has cost nothing yet. */
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(tx->rsp_prod, 1);
    CHECK_EQ(tx->ring[0].rsp.status, NETIF_RSP_OKAY);
    CHECK_EQ(recv(wire, came, sizeof(came), 0), HEADER_BYTES + 60);
    CHECK_EQ(counted().shortages, 2);
    CHECK(!counted().tx_refused && !counted().tx_throttled);
    end();
}

static void *run(void *out)
{
    CHECK_EQ(net_run(engine, out), 0);
    return NULL;
}

/* Of buffers likewise; nobody sends an event, and it has rx-notify. */
TEST(buffers_that_the_host_is_short_of)
{
    static unsigned char frame[10 + 60];
    struct net_ring ring = {5, TX_RING, RX_RING, FAKE_PORT, FAKE_PORT};
    struct net_link link = {.can_sg = true, .has_rx_notify = true};
    struct net_exit out;
    pthread_t thread;

    begin();
    detach();
    link.fd = tap();
    fresh_rings();
    CHECK_EQ(net_attach(engine, &ring, &link), 0);
    fake_nr_short = 3;
    give(2);
    CHECK_EQ(send(wire, frame, sizeof(frame), 0), (long)sizeof(frame));
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(rx->rsp_prod, 0);
    CHECK(!pthread_create(&thread, NULL, run, &out));
    while (!__atomic_load_n(&rx->rsp_prod, __ATOMIC_ACQUIRE))
        usleep(1000);
    net_kick(engine);
    pthread_join(thread, NULL);
    CHECK_EQ(rx->ring[0].rsp.status, 60);
    CHECK_EQ(counted().shortages, 3);
    CHECK(!counted().rx_dropped);
    close(link.fd);
    end();
}

TEST(so_much_in_an_interval)
{
    struct net_statistics counters;

    begin();
    net_limit_set(limit, 3000, 1000000000);
    for (int i = 0; i < 5; i++)
        put(TX_DATA, 0, 0, 1000);
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(tx->rsp_prod, 3);
    net_statistics(engine, &counters);
    CHECK_EQ(counters.tx_throttled, 1);
    net_limit_set(limit, 0, 0);
    CHECK_EQ(turn(), NET_EXIT_KICKED);
    CHECK_EQ(tx->rsp_prod, 5);
    end();
}

/* As two queues would: what one has taken is not the other's. */
TEST(a_packet_larger_than_what_is_left)
{
    int64_t retry_ns = 0, start_ns;

    limit = net_limit_new();
    CHECK(limit && limit_take(limit, 70000, &retry_ns));
    net_limit_set(limit, 1000, 1000000000);
    start_ns = now_ns();
    CHECK(limit_take(limit, 600, &retry_ns));
    CHECK(limit_take(limit, 65000, &retry_ns));
    CHECK(!limit_take(limit, 1, &retry_ns));
    CHECK(retry_ns > start_ns + 900 * INT64_C(1000000000));
    /* It is owed: 64 intervals of 100 us pass before anything may go. */
    net_limit_set(limit, 1000, 100);
    start_ns = now_ns();
    CHECK(limit_take(limit, 65000, &retry_ns));
    while (!limit_take(limit, 1, &retry_ns))
        CHECK(retry_ns > start_ns);
    CHECK(now_ns() - start_ns >= 64 * 100000);
    /* Of 300 KB that nobody has taken 128 KiB are left: 69 KB are owed. */
    net_limit_set(limit, 100, 1);
    start_ns = now_ns();
    while (now_ns() - start_ns < 3000000)
        ;
    start_ns = now_ns();
    CHECK(limit_take(limit, 200000, &retry_ns));
    while (!limit_take(limit, 1, &retry_ns))
        ;
    CHECK(now_ns() - start_ns >= 680000);
    net_limit_set(limit, 0, 0);
    CHECK(limit_take(limit, 70000, &retry_ns));
    net_limit_free(limit);
}

static void answer_at(uint32_t at, uint16_t id, int16_t status)
{
    tx->ring[at].rsp = (netif_tx_response_t){id, status};
}

/* A packet of four slots and one of one, the first sent, and its sender killed
 * when so many of its answers were written. */
TEST(answers_that_no_index_covers)
{
    static const uint16_t ids[] = {7, 0, 7, 7};

    for (uint32_t nr_answers = 0; nr_answers <= 4; nr_answers++) {
        struct netif_extra_info extra = {.type = XEN_NETIF_EXTRA_TYPE_MAX};
        struct net_ring ring = {5, TX_RING, RX_RING, FAKE_PORT, FAKE_PORT};
        struct net_link link = {.can_sg = true};
        struct net_exit out;

        begin();
        detach();
        link.fd = tap();
        put(TX_DATA, 0, NETTXF_more_data | NETTXF_extra_info, 3000);
        memcpy(&tx->ring[tx->req_prod++], &extra, sizeof(extra));
        put(TX_DATA + 1, 0, NETTXF_more_data, 1000);
        put(TX_DATA + 2, 0, 0, 1000);
        put(TX_DATA, 0, 0, 77);
        for (uint32_t i = 0; i < nr_answers; i++)
            answer_at(i, ids[i], i == 1 ? NETIF_RSP_NULL : NETIF_RSP_OKAY);
        CHECK_EQ(net_attach(engine, &ring, &link), 0);
        net_kick(engine);
        CHECK_EQ(net_run(engine, &out), 0);
        /* None was, and the packet is as broken as it was. */
        CHECK_EQ(out.why, nr_answers ? NET_EXIT_KICKED : NET_EXIT_BROKEN_RING);
        for (uint32_t i = 0; nr_answers && i < 5; i++) {
            CHECK_EQ(tx->ring[i].rsp.id, i == 1 ? 0 : 7);
            CHECK_EQ(tx->ring[i].rsp.status == NETIF_RSP_NULL, i == 1);
        }
        CHECK_EQ(tx->rsp_prod, nr_answers ? 5 : 0);
        CHECK_EQ(recv(wire, came, sizeof(came), 0),
                 nr_answers ? HEADER_BYTES + 77 : -1);
        CHECK_EQ(recv(wire, came, sizeof(came), 0), -1);
        close(link.fd);
        end();
    }
}

/* When the engine sleeps, give it a buffer; end it when that is used. */
static void *give_without_event(void *unused)
{
    struct net_statistics counters;

    do
        net_statistics(engine, &counters);
    while (!counters.wakes);
    give(1);
    while (!__atomic_load_n(&rx->rsp_prod, __ATOMIC_ACQUIRE))
        ;
    net_kick(engine);
    return unused;
}

TEST(buffers_that_no_event_tells_of)
{
    static unsigned char frame[10 + 60];
    struct net_exit out;
    pthread_t thread;

    begin();
    detach();
    attach(false, 0);
    CHECK_EQ(send(wire, frame, sizeof(frame), 0), (long)sizeof(frame));
    CHECK_EQ(pthread_create(&thread, NULL, give_without_event, NULL), 0);
    CHECK_EQ(net_run(engine, &out), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(rx->rsp_prod, 1);
    end();
}

/* Whether anybody looks at the answers is the frontend's affair. */
TEST(answers_that_nobody_takes)
{
    begin();
    for (int i = 0; i < 100; i++) {
        for (int j = 0; j < 64; j++)
            put(TX_DATA, 0, 0, 60);
        CHECK_EQ(turn(), NET_EXIT_KICKED);
        CHECK_EQ(tx->rsp_prod, tx->req_prod);
    }
    /* More than there is room for, even so. */
    tx->req_prod += NR_SLOTS + 1;
    CHECK_EQ(turn(), NET_EXIT_BROKEN_RING);
    end();
}

static void put_group(uint8_t type, uint32_t number)
{
    struct netif_extra_info extra = {.type = type};

    put(0, 0, NETTXF_extra_info, 60);
    extra.u.mcast.addr[0] = 1;
    memcpy(extra.u.mcast.addr + 1, &number, sizeof(number));
    memcpy(&tx->ring[tx->req_prod++ % NR_SLOTS], &extra, sizeof(extra));
}

/* How many of so many changes of the filter were accepted. */
static uint32_t change_groups(uint8_t type, uint32_t first, uint32_t count)
{
    uint32_t nr_done = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = tx->req_prod % NR_SLOTS;

        put_group(type, first + i);
        CHECK_EQ(turn(), NET_EXIT_KICKED);
        nr_done += tx->ring[at].rsp.status == NETIF_RSP_OKAY;
        CHECK_EQ(tx->ring[(at + 1) % NR_SLOTS].rsp.status, NETIF_RSP_NULL);
    }
    return nr_done;
}

TEST(more_groups_than_a_filter_has)
{
    begin();
    CHECK_EQ(change_groups(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0, 1000),
             NET_MAX_MULTICAST);
    /* One that is there is so twice. */
    CHECK_EQ(change_groups(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0, 10), 10);
    CHECK_EQ(change_groups(XEN_NETIF_EXTRA_TYPE_MCAST_DEL, 60, 1000), 4);
    CHECK_EQ(change_groups(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 2000, 1000), 4);
    CHECK_EQ(recv(wire, came, sizeof(came), 0), -1);
    end();
}

/* What comes out at the tap is a frame, and the header is inside of it. */
static void check_wire(void)
{
    struct virtio_net_hdr header;
    ssize_t got;

    while ((got = recv(wire, came, sizeof(came), 0)) > 0) {
        ssize_t bytes = got - HEADER_BYTES;

        memcpy(&header, came, sizeof(header));
        CHECK(bytes >= 14);
        if (header.flags)
            CHECK(header.csum_start + header.csum_offset + 2 <= bytes);
        if (header.gso_type)
            CHECK(header.gso_size && header.hdr_len < bytes);
    }
}

/* A slot that is right in some ways, as a rule. */
static void put_any(uint64_t word)
{
    bool is_tame = word & 1;

    put((uint32_t)(word >> 8) % (is_tame ? 58 : 70),
        (uint16_t)((word >> 16) % (is_tame ? 2048 : 5000)),
        (uint16_t)((word >> 32) & (is_tame ? 5 : 15)),
        (uint16_t)((word >> 40) % (is_tame ? 2048 : 66000)));
}

TEST(any_slots)
{
    uint64_t state = 7;
    unsigned int nr_broken = 0;

    begin();
    for (int i = 0; i < 3000; i++) {
        uint64_t word = random64(&state);
        uint32_t why;

        for (uint64_t n = word % 40; n--;)
            put_any(random64(&state));
        put(TX_DATA, 0, 0, 64); /* an end for what wants more */
        for (uint64_t n = (word >> 8) % 20; n--;) {
            give(1);
            if (!(random64(&state) % 16))
                rx->ring[(rx->req_prod - 1) % NR_SLOTS].req.gref =
                    (uint32_t)random64(&state);
        }
        for (uint64_t n = (word >> 16) % 4; n--;) {
            size_t bytes = random64(&state) % 66000;

            for (size_t at = 0; at < 64; at += 8) {
                uint64_t noise = random64(&state);

                memcpy(came + at, &noise, 8);
            }
            send(wire, came, bytes, 0);
        }
        if (!((word >> 24) % 64))
            tx->req_prod += 1000;
        if (!((word >> 32) % 64))
            rx->req_prod += 1000;
        filter.is_active = word >> 40 & 1;
        why = turn();
        check_wire();
        /* Nothing is published that was not asked for. */
        CHECK(why == NET_EXIT_BROKEN_RING ||
              tx->req_prod - tx->rsp_prod <= NR_SLOTS);
        if (why == NET_EXIT_BROKEN_RING || tx->req_prod != tx->rsp_prod) {
            nr_broken++;
            detach();
            attach(word >> 41 & 1, (uint8_t)(word >> 42 & 3));
        }
    }
    CHECK(nr_broken > 100 && nr_broken < 2900);
    end();
}

static volatile bool is_over;

/* All of both rings, all the time; and all pages' contents. */
static void *scribble(void *unused)
{
    uint64_t state = 99;

    while (!is_over) {
        uint64_t word = random64(&state);
        uint32_t *words = (uint32_t *)(void *)page(TX_RING);

        /* The first four of each page are its indices: now and then. */
        if (word % 1024 >= 4 || !(word >> 60))
            words[word % 2048] = (uint32_t)(word >> 32) & 0x3fff003f;
        page(8 + word % 50)[word >> 16 & 4095] = (char)(word >> 40);
    }
    return unused;
}

TEST(rings_that_change_all_the_time)
{
    pthread_t thread;
    static unsigned char frame[10 + 5000];

    begin();
    is_over = false;
    CHECK_EQ(pthread_create(&thread, NULL, scribble, NULL), 0);
    for (int i = 0; i < 4000; i++) {
        send(wire, frame, sizeof(frame), 0);
        tx->req_prod += 3;
        rx->req_prod += 3;
        if (turn() == NET_EXIT_BROKEN_RING) {
            detach();
            attach(i & 1, (uint8_t)(i & 3));
        }
        check_wire();
    }
    is_over = true;
    pthread_join(thread, NULL);
    end();
}
