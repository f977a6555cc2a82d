/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block engine serves a ring in a thread of its own, and all that is shared
 * with it changes meanwhile. What it owes is an answer for each request, and to
 * touch nothing else.
 */
#define _GNU_SOURCE
#include "tests/native/harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "blkbackd/csrc/engine.h"
#include "tests/native/blk_fakes.h"

/*
 * Pages of the domain: what scribble() makes of a reference is one of those
 * before FIRST_KEPT, or none, so that no disk is read into a ring.
 */
#define FIRST_KEPT 12
#define RING 20
#define MAX_RING_PAGES 4
#define SEGMENTS 30
#define DATA 32
#define NR_SEGMENTS 20
#define NR_SECTORS 2048
#define NR_REQUESTS 3000

static const struct kind {
    uint32_t abi, nr_pages, block_bytes;
    int flags; /* of open(2) */
} kinds[] = {
    {BLK_ABI_64, 1, 512, 0},        {BLK_ABI_64, 1, 4096, O_DIRECT},
    {BLK_ABI_32, 1, 512, O_DIRECT}, {BLK_ABI_64, 4, 512, O_DIRECT},
    {BLK_ABI_32, 4, 4096, 0},
};
#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const struct kind *kind;
static struct blk_engine *engine;
static struct blkif_sring *sring;
static struct blk_volume volume;
static uint32_t nr_slots, slot_bytes;
static uint32_t last_exit;
static pthread_t thread;
static uint64_t random_state = 0x9e3779b97f4a7c15;

static void *serve(void *unused)
{
    struct blk_exit out;

    (void)unused;
    do {
        CHECK_EQ(blk_run(engine, &out), 0);
    } while (out.why == BLK_EXIT_VOLUME_ERROR);
    __atomic_store_n(&last_exit, out.why, __ATOMIC_RELEASE);
    return NULL;
}

static void begin(const struct kind *wanted)
{
    struct blk_ring ring = {.domid = 5,
                            .port = FAKE_PORT,
                            .abi = wanted->abi,
                            .nr_pages = wanted->nr_pages};

    kind = wanted;
    volume = (struct blk_volume){
        .fd = open("volume",
                   O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | kind->flags, 0600),
        .block_bytes = kind->block_bytes,
        .memory_align = kind->flags & O_DIRECT ? kind->block_bytes : 1,
        .can_discard = 1,
        .nr_sectors = NR_SECTORS,
    };
    if (volume.fd < 0 || ftruncate(volume.fd, NR_SECTORS * 512L))
        exit(1);
    fake_domain_new();
    for (uint32_t i = 0; i < kind->nr_pages; i++)
        ring.ref[i] = RING + i;
    slot_bytes = kind->abi == BLK_ABI_32 ? 108 : sizeof(struct blkif_request);
    for (nr_slots = 1; nr_slots * 2 * slot_bytes <= kind->nr_pages * 4096 - 64;)
        nr_slots *= 2;
    sring = (void *)(fake_memory + RING * 4096L);
    SHARED_RING_INIT(sring);
    engine = blk_new();
    CHECK(engine != NULL);
    CHECK_EQ(blk_attach(engine, &ring, &volume), 0);
    last_exit = 0;
    CHECK_EQ(pthread_create(&thread, NULL, serve, NULL), 0);
}

/* It has come back, or is to; all that was taken is answered. */
static void stop(void)
{
    blk_kick(engine);
    pthread_join(thread, NULL);
    blk_quiesce(engine);
    CHECK_EQ(fake_nr_mapped, 0);
}

static void end(void)
{
    blk_free(engine);
    fake_domain_free();
    close(volume.fd);
}

/* Good ones of each kind, to begin with. */
static void put_any(uint32_t number)
{
    struct blkif_request request = {
        .operation = (uint8_t)(number % 7),
        .nr_segments = 1,
        .id = number,
        .sector_number = 8 * (number % 2),
        .seg = {{DATA + number % 5, 0, 7}},
    };
    struct blkif_request_indirect indirect = {
        .operation = BLKIF_OP_INDIRECT,
        .indirect_op = (uint8_t)(number / 7 % 2),
        .nr_segments = NR_SEGMENTS,
        .id = number,
        .indirect_grefs = {SEGMENTS},
    };
    struct blkif_request_discard discard = {BLKIF_OP_DISCARD, 0, 0,
                                            number,           8, 8};
    char *slot = (char *)sring + 64 + (number & (nr_slots - 1)) * slot_bytes;
    const char *from = (const char *)&request;

    if (request.operation == BLKIF_OP_INDIRECT)
        memcpy(&request, &indirect, sizeof(indirect));
    else if (request.operation == BLKIF_OP_DISCARD)
        memcpy(&request, &discard, sizeof(discard));
    /* i386 has no hole before the id. */
    memcpy(slot, from, 4);
    memcpy(slot + 4, from + (kind->abi == BLK_ABI_32 ? 8 : 4), slot_bytes - 4);
    __atomic_store_n(&sring->req_prod, number + 1, __ATOMIC_RELEASE);
    fake_send();
}

/* Small numbers mostly, so that many requests stay good ones. */
static uint8_t any_byte(uint64_t value)
{
    return value % 16 ? (uint8_t)(value / 16 % FIRST_KEPT) : 0xff;
}

static void scribble(void *where, uint64_t bytes)
{
    uint64_t value = random64(&random_state);

    __atomic_store_n((uint8_t *)where + (value >> 32) % bytes, any_byte(value),
                     __ATOMIC_RELAXED);
}

static void scribble_anywhere(void)
{
    uint64_t value = random64(&random_state);

    scribble((char *)sring + 64, kind->nr_pages * 4096 - 64);
    /* The segments of indirect requests, before and after they are read. */
    scribble(fake_memory + SEGMENTS * 4096L, NR_SEGMENTS * 8);
    /* Grants come and go. */
    __atomic_store_n(&fake_nr_granted,
                     value % 64 ? FAKE_PAGES : value / 64 % FIRST_KEPT,
                     __ATOMIC_RELAXED);
    if (value % 4096 == 0)
        blk_resize(engine, value / 4096 % NR_SECTORS);
}

static void write_good_segments(void)
{
    struct blkif_request_segment *segments =
        (void *)(fake_memory + SEGMENTS * 4096L);

    for (uint32_t i = 0; i < NR_SEGMENTS; i++)
        segments[i] = (struct blkif_request_segment){DATA + i, 0, 7};
}

static uint32_t nr_answered(void)
{
    return __atomic_load_n(&sring->rsp_prod, __ATOMIC_ACQUIRE);
}

TEST(scribbled_on_between_any_two_steps)
{
    for (unsigned int i = 0; i < NR_KINDS; i++) {
        struct blk_statistics statistics;
        uint32_t asked = 0;

        begin(&kinds[i]);
        do {
            CHECK(asked - nr_answered() <= nr_slots);
            if (asked < NR_REQUESTS && asked - nr_answered() < nr_slots) {
                if (asked % 16 == 0)
                    write_good_segments();
                put_any(asked++);
            }
            scribble_anywhere();
        } while (nr_answered() != NR_REQUESTS);
        blk_statistics(engine, &statistics);
        CHECK(statistics.reads && statistics.writes && statistics.flushes);
        CHECK(statistics.discards && statistics.refused);
        stop();
        CHECK_EQ(last_exit, BLK_EXIT_KICKED);
        CHECK_EQ(nr_answered(), NR_REQUESTS);
        end();
    }
}

/* What had been taken is answered, and no more. */
TEST(an_index_that_jumps_while_it_is_served)
{
    for (unsigned int i = 0; i < 4 * NR_KINDS; i++) {
        uint32_t asked = 0;

        begin(&kinds[i % NR_KINDS]);
        write_good_segments();
        while (asked < nr_slots)
            put_any(asked++);
        __atomic_store_n(&sring->req_prod,
                         asked + nr_slots + 1 +
                             (uint32_t)random64(&random_state) / 2,
                         __ATOMIC_RELEASE);
        fake_send();
        while (!__atomic_load_n(&last_exit, __ATOMIC_ACQUIRE))
            usleep(100);
        stop();
        CHECK_EQ(last_exit, BLK_EXIT_BROKEN_RING);
        CHECK(nr_answered() <= nr_slots);
        end();
    }
}
