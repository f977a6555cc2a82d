/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network frontend that does what it is told, line by line:
 *
 *     frontend DOMID
 *
 * start                       be the domain (it is registered by then)
 * open QUEUES SPLIT           answers "ports=TX:RX,...": SPLIT has a bit for
 *                             each queue that has two channels
 * send QUEUE FLAGS TYPE SIZE SLOT HEX   a frame in slots of SLOT bytes, with
 *                             a GSO extra if TYPE is not 0: "status=N"
 * group ADD HEX               add to, or take from, the multicast filter
 * receive QUEUE MS            "flags=F gso=TYPE:SIZE slots=N HEX", or "none",
 *                             or "status=N"
 * raw GREF OFFSET FLAGS SIZE...   a packet of such slots: "status=N N..."
 * extras COUNT TYPE           a packet with so many extras, each with a next
 * index STEP                  move the index so far, and ring
 * scribble COUNT              requests that change while they are served
 * spoil                       make all buffers' grants bad
 * mute                        give buffers without an event
 * tx BYTES GSO SECONDS        frames as fast as they go: "packets=N seconds=S"
 * rx SECONDS [RING]           take what comes, likewise; with RING, give
 *                             buffers with an event, wanted or not
 * echo SECONDS                send back what comes
 */
#include "tests/support/net/frontend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

static char *big;

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t random64(void)
{
    static uint64_t state = 88172645463325252;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint32_t from_hex(const char *hex, char *bytes)
{
    uint32_t n = 0;
    unsigned int byte;

    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        bytes[n++] = (char)byte;
    return n;
}

static void put_extra(struct queue *q, const netif_extra_info_t *extra)
{
    netif_tx_request_t slot = {0};

    memcpy(&slot, extra, sizeof(*extra));
    tx_put(q, &slot);
}

/* Put a frame whose bytes are at data; how many slots that takes. */
static uint32_t put_frame(struct frontend *f, struct queue *q, const char *data,
                          uint32_t bytes, uint16_t flags, uint8_t gso_type,
                          uint16_t gso_size, uint32_t slot_bytes)
{
    netif_extra_info_t extra = {.type = XEN_NETIF_EXTRA_TYPE_GSO};
    uint32_t done = 0, before = q->tx_prod;

    extra.u.gso.size = gso_size;
    extra.u.gso.type = gso_type;
    do {
        uint32_t part = bytes - done < slot_bytes ? bytes - done : slot_bytes;
        uint16_t id = (uint16_t)(q->tx_prod & (NR_SLOTS - 1));
        uint32_t page = TX_PAGE(q->number, id);
        netif_tx_request_t request = {
            .gref = FIRST_REF + page,
            /* At an end of its page, as data is that straddles two. */
            .offset = (uint16_t)(data ? PAGE_BYTES - part : 0),
            .flags = done ? 0 : flags,
            .id = id,
            .size = (uint16_t)(done ? part : bytes),
        };

        if (data)
            memcpy(page_at(f, page) + request.offset, data + done, part);
        if (done + part < bytes)
            request.flags |= NETTXF_more_data;
        if (!done && gso_type)
            request.flags |= NETTXF_extra_info;
        tx_put(q, &request);
        if (!done && gso_type)
            put_extra(q, &extra);
        done += part;
    } while (done < bytes);
    return q->tx_prod - before;
}

static void answers(struct queue *q)
{
    netif_tx_response_t response;

    tx_push(q);
    printf("status=");
    while (q->tx_cons != q->tx_prod) {
        tx_take_wait(q, &response);
        if (response.status != NETIF_RSP_NULL)
            printf("%d ", response.status);
    }
    printf("\n");
}

static void do_send(struct frontend *f, const char *line)
{
    unsigned int number, flags, type, size, slot;
    int at;

    must(sscanf(line, "send %u %u %u %u %u %n", &number, &flags, &type, &size,
                &slot, &at) == 5,
         line);
    put_frame(f, &f->queue[number], big, from_hex(line + at, big),
              (uint16_t)flags, (uint8_t)type, (uint16_t)size, slot);
    answers(&f->queue[number]);
}

static void do_group(struct frontend *f, const char *line)
{
    netif_tx_request_t request = {.size = 64, .flags = NETTXF_extra_info};
    netif_extra_info_t extra = {.flags = 0};
    unsigned int is_add;
    int at;

    must(sscanf(line, "group %u %n", &is_add, &at) == 1, line);
    extra.type = is_add ? XEN_NETIF_EXTRA_TYPE_MCAST_ADD
                        : XEN_NETIF_EXTRA_TYPE_MCAST_DEL;
    from_hex(line + at, big);
    memcpy(extra.u.mcast.addr, big, 6);
    tx_put(&f->queue[0], &request);
    put_extra(&f->queue[0], &extra);
    answers(&f->queue[0]);
}

static void do_receive(struct frontend *f, const char *line)
{
    struct packet packet = {.data = big};
    unsigned int number;
    struct queue *q;
    double end;
    int ms;

    must(sscanf(line, "receive %u %d", &number, &ms) == 2, line);
    q = &f->queue[number];
    end = now_s() + ms / 1000.0;
    while (!rx_take(f, q, &packet)) {
        if (now_s() >= end) {
            printf("none\n");
            return;
        }
        rx_sleep(q, ms);
    }
    rx_push(q);
    if (packet.bytes < 0) {
        printf("status=%d\n", packet.bytes);
        return;
    }
    printf("flags=%u gso=%u:%u slots=%u ", packet.flags, packet.gso_type,
           packet.gso_type ? packet.gso_size : 0, packet.nr_slots);
    for (int i = 0; i < packet.bytes; i++)
        printf("%02x", (unsigned char)big[i]);
    printf("\n");
}

static void do_raw(struct frontend *f, const char *line)
{
    unsigned int gref, offset, flags, size;
    int at = 3, n;

    while (sscanf(line + at, "%u %u %u %u%n", &gref, &offset, &flags, &size,
                  &n) == 4) {
        netif_tx_request_t request = {gref, (uint16_t)offset, (uint16_t)flags,
                                      7, (uint16_t)size};

        tx_put(&f->queue[0], &request);
        at += n;
    }
    answers(&f->queue[0]);
}

static void do_extras(struct frontend *f, const char *line)
{
    netif_tx_request_t request = {FIRST_REF + TX_PAGE(0, 0), 0,
                                  NETTXF_extra_info, 1, 64};
    netif_extra_info_t extra = {.flags = XEN_NETIF_EXTRA_FLAG_MORE};
    unsigned int count, type;

    must(sscanf(line, "extras %u %u", &count, &type) == 2, line);
    extra.type = (uint8_t)type;
    tx_put(&f->queue[0], &request);
    while (count--)
        put_extra(&f->queue[0], &extra);
    tx_push(&f->queue[0]);
    tx_ring(&f->queue[0]);
    printf("put\n");
}

/* Packets of two slots, all of them rewritten while they are looked at. */
static void do_scribble(struct frontend *f, const char *line)
{
    struct queue *q = &f->queue[0];
    netif_tx_response_t response;
    unsigned int count, done = 0;

    must(sscanf(line, "scribble %u", &count) == 1, line);
    while (done < count) {
        uint32_t first = q->tx_prod;

        for (int i = 0; i < 100; i++)
            put_frame(f, q, NULL, 64, 0, 0, 0, 64);
        tx_push(q);
        while (tx_take(q, &response) || q->tx_cons != q->tx_prod) {
            netif_tx_request_t *victim =
                &q->tx->ring[(first + random64() % 100) & (NR_SLOTS - 1)].req;

            /* Never more_data or extras: the ring's end is the test's own. */
            victim->size = (uint16_t)random64();
            victim->offset = (uint16_t)random64();
            if (random64() & 1)
                victim->gref = (uint32_t)random64() & 0x3fff;
        }
        done += 100;
    }
    printf("answers=%u\n", done);
}

static void do_tx(struct frontend *f, const char *line)
{
    unsigned int bytes, gso;
    uint64_t packets = 0, answered = 0;
    struct queue *q = &f->queue[0];
    netif_tx_response_t response;
    double seconds, start = now_s(), end;

    must(sscanf(line, "tx %u %u %lf", &bytes, &gso, &seconds) == 3, line);
    while ((end = now_s()) - start < seconds) {
        for (int i = 0; i < 16; i++) {
            uint32_t room = NR_SLOTS - (q->tx_prod - q->tx_cons);

            if (room < (bytes + PAGE_BYTES - 1) / PAGE_BYTES + 1)
                break;
            put_frame(f, q, NULL, bytes, gso ? NETTXF_csum_blank : 0,
                      gso ? XEN_NETIF_GSO_TYPE_TCPV4 : 0, (uint16_t)gso,
                      PAGE_BYTES);
            packets++;
        }
        tx_push(q);
        /* Half of the ring: neither side waits for each packet. */
        if (q->tx_prod - q->tx_cons > NR_SLOTS / 2)
            tx_take_wait(q, &response);
        while (tx_take(q, &response))
            answered++;
    }
    while (q->tx_cons != q->tx_prod)
        tx_take_wait(q, &response);
    printf("packets=%lu seconds=%f\n", packets, now_s() - start);
}

static void do_rx(struct frontend *f, const char *line, bool is_echo)
{
    uint64_t packets = 0, bytes = 0;
    struct packet packet = {.data = is_echo ? big : NULL};
    struct queue *q = &f->queue[0];
    netif_tx_response_t response;
    double seconds, start = now_s();
    int rings = 0;

    must(sscanf(line, is_echo ? "echo %lf" : "rx %lf %d", &seconds, &rings) > 0,
         line);
    while (now_s() - start < seconds) {
        uint64_t before = packets;

        while (packets < before + 64 && rx_take(f, q, &packet)) {
            packets++;
            bytes += packet.bytes < 0 ? 0 : (uint32_t)packet.bytes;
            if (is_echo) {
                put_frame(f, q, big, (uint32_t)packet.bytes, 0, 0, 0,
                          PAGE_BYTES);
                tx_push(q);
                while (tx_take(q, &response))
                    ;
            }
        }
        if (packets != before) {
            rx_push(q);
            if (rings)
                eventfd_write(q->rx_out, 1);
        } else {
            rx_sleep(q, 20);
        }
    }
    printf("packets=%lu bytes=%lu seconds=%f\n", packets, bytes,
           now_s() - start);
}

static void do_open(struct frontend *f, const char *line)
{
    unsigned int nr_queues, split;

    must(sscanf(line, "open %u %u", &nr_queues, &split) == 2, line);
    frontend_open(f, nr_queues, split);
    printf("ports=");
    for (uint32_t i = 0; i < nr_queues; i++)
        printf("%u:%u,", f->queue[i].tx_port, f->queue[i].rx_port);
    printf("\n");
}

static void do_index(struct frontend *f, const char *line)
{
    unsigned int step;

    must(sscanf(line, "index %u", &step) == 1, line);
    f->queue[0].tx->req_prod += step;
    tx_ring(&f->queue[0]);
    printf("moved\n");
}

static void do_spoil(struct frontend *f)
{
    for (uint32_t i = 0; i < NR_SLOTS; i++)
        f->grants[FIRST_REF + RX_PAGE(0, i)].flags = 0;
    printf("spoiled\n");
}

int main(int argc, char **argv)
{
    static struct frontend f;
    static char line[300000];

    must(argc == 2, "frontend DOMID");
    big = calloc(1, 1 << 20);
    while (fgets(line, sizeof(line), stdin)) {
        if (!strncmp(line, "start", 5)) {
            frontend_new(&f, (uint32_t)atoi(argv[1]));
            printf("started\n");
        } else if (!strncmp(line, "open", 4)) {
            do_open(&f, line);
        } else if (!strncmp(line, "send", 4)) {
            do_send(&f, line);
        } else if (!strncmp(line, "group", 5)) {
            do_group(&f, line);
        } else if (!strncmp(line, "receive", 7)) {
            do_receive(&f, line);
        } else if (!strncmp(line, "raw", 3)) {
            do_raw(&f, line);
        } else if (!strncmp(line, "extras", 6)) {
            do_extras(&f, line);
        } else if (!strncmp(line, "index", 5)) {
            do_index(&f, line);
        } else if (!strncmp(line, "scribble", 8)) {
            do_scribble(&f, line);
        } else if (!strncmp(line, "mute", 4)) {
            f.queue[0].is_mute = true;
            printf("muted\n");
        } else if (!strncmp(line, "spoil", 5)) {
            do_spoil(&f);
        } else if (!strncmp(line, "frame", 5)) {
            /* What "tx" sends: the start of every page of the transmit side. */
            uint32_t n = from_hex(line + 6, big);

            for (uint32_t i = 0; i < NR_SLOTS; i++)
                memcpy(page_at(&f, TX_PAGE(0, i)), big, n);
            printf("framed\n");
        } else if (!strncmp(line, "tx", 2)) {
            do_tx(&f, line);
        } else if (!strncmp(line, "rx", 2)) {
            do_rx(&f, line, false);
        } else if (!strncmp(line, "echo", 4)) {
            do_rx(&f, line, true);
        } else {
            must(false, line);
        }
        fflush(stdout);
    }
    return 0;
}
