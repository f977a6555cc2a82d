/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The block engine on a real file, with a frontend in this program. */
#define _GNU_SOURCE
#include "tests/native/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "blkbackd/csrc/engine.h"
#include "tests/native/blk_fakes.h"
#include "tests/native/blk_submitted.h"

/* Pages of the domain. */
#define RING 20
#define SEGMENTS 21
#define DATA 22
#define NR_SLOTS 32
#define NR_SECTORS 2048

static struct blk_engine *engine;
static struct blkif_sring *sring;
static struct blk_volume volume;
static uint32_t rsp_cons;

static void open_volume(uint32_t block_bytes, int flags)
{
    volume = (struct blk_volume){
        .fd = open("volume", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags,
                   0600),
        .block_bytes = block_bytes,
        .memory_align = flags & O_DIRECT ? block_bytes : 1,
        .can_discard = 1,
        .nr_sectors = NR_SECTORS,
    };
    if (volume.fd < 0 || ftruncate(volume.fd, NR_SECTORS * 512L))
        exit(1);
}

static void begin(uint32_t block_bytes, int flags)
{
    struct blk_ring ring = {
        .domid = 5, .port = FAKE_PORT, .nr_pages = 1, .ref = {RING}};

    open_volume(block_bytes, flags);
    fake_domain_new();
    sring = (void *)(fake_memory + RING * 4096L);
    SHARED_RING_INIT(sring);
    rsp_cons = 0;
    engine = blk_new();
    CHECK(engine != NULL);
    CHECK_EQ(blk_attach(engine, &ring, &volume), 0);
}

static void end(void)
{
    blk_quiesce(engine);
    CHECK_EQ(fake_nr_mapped, 0);
    blk_free(engine);
    fake_domain_free();
    close(volume.fd);
}

static char *page(unsigned int number)
{
    return fake_memory + number * 4096L;
}

/* One turn of the engine's loop, or as many as it likes. */
static struct blk_exit turn(void)
{
    struct blk_exit out;

    blk_kick(engine);
    CHECK_EQ(blk_run(engine, &out), 0);
    return out;
}

static void put(struct blkif_request request)
{
    memcpy(&sring->ring[sring->req_prod % NR_SLOTS], &request, sizeof(request));
    sring->req_prod++;
}

/* The next answer, waited for; its status. */
static int16_t answer(uint64_t id)
{
    struct blkif_response *response = (void *)&sring->ring[rsp_cons % NR_SLOTS];

    while (__atomic_load_n(&sring->rsp_prod, __ATOMIC_ACQUIRE) == rsp_cons)
        turn();
    rsp_cons++;
    CHECK_EQ(response->id, id);
    return response->status;
}

static int16_t ask(struct blkif_request request)
{
    put(request);
    return answer(request.id);
}

static struct blkif_request io(uint8_t op, uint64_t id, uint64_t sector,
                               uint32_t gref, uint8_t first, uint8_t last)
{
    return (struct blkif_request){op, 1, 0, id, sector, {{gref, first, last}}};
}

static bool has(off_t sector, char byte)
{
    char got[512];

    return pread(volume.fd, got, 512, sector * 512) == 512 && got[0] == byte &&
           !memcmp(got, got + 1, 511);
}

TEST(written_and_read_back)
{
    begin(512, 0);
    memset(page(DATA), 'a', 4096);
    CHECK_EQ(ask(io(BLKIF_OP_WRITE, 1, 8, DATA, 0, 7)), BLKIF_RSP_OKAY);
    CHECK(has(8, 'a') && has(15, 'a') && has(7, 0) && has(16, 0));
    CHECK_EQ(ask(io(BLKIF_OP_READ, 2, 15, DATA + 1, 3, 4)), BLKIF_RSP_OKAY);
    CHECK_EQ(page(DATA + 1)[3 * 512 - 1], 0);
    CHECK_EQ(page(DATA + 1)[3 * 512], 'a');
    CHECK_EQ(page(DATA + 1)[4 * 512], 0);
    end();
}

TEST(direct_with_segments_that_the_disk_cannot_take)
{
    struct blk_statistics statistics;
    struct blkif_request request = {
        BLKIF_OP_WRITE, 2, 0, 1, 8, {{DATA, 7, 7}, {DATA + 1, 0, 6}}};

    begin(4096, O_DIRECT);
    memset(page(DATA), 'x', 4096);
    memset(page(DATA) + 7 * 512, 'a', 512);
    memset(page(DATA + 1), 'b', 4096);
    CHECK_EQ(ask(request), BLKIF_RSP_OKAY);
    memset(page(DATA), 0, 8192);
    request.operation = BLKIF_OP_READ;
    CHECK_EQ(ask(request), BLKIF_RSP_OKAY);
    CHECK(page(DATA)[7 * 512] == 'a' && page(DATA + 1)[6 * 512] == 'b');
    CHECK(!page(DATA)[0] && !page(DATA + 1)[7 * 512]);
    blk_statistics(engine, &statistics);
    CHECK_EQ(statistics.bounced, 2);
    CHECK_EQ(statistics.read_sectors, 8);
    /* More of them at a time than there are buffers. */
    for (int i = 0; i < NR_SLOTS; i++) {
        request.id = 1;
        put(request);
    }
    for (int i = 0; i < NR_SLOTS; i++)
        CHECK_EQ(answer(1), BLKIF_RSP_OKAY);
    end();
}

TEST(indirect_segments)
{
    struct blkif_request_indirect indirect = {
        BLKIF_OP_INDIRECT, BLKIF_OP_WRITE, 40, 3, 0, 0, {SEGMENTS}};
    struct blkif_request_segment *segments;
    struct blkif_request slot = {0};

    begin(512, 0);
    segments = (void *)page(SEGMENTS);
    for (uint32_t i = 0; i < 40; i++) {
        segments[i] = (struct blkif_request_segment){DATA + i, 0, 7};
        memset(page(DATA + i), 'A' + (int)i, 4096);
    }
    memcpy(&slot, &indirect, sizeof(indirect));
    CHECK_EQ(ask(slot), BLKIF_RSP_OKAY);
    /* Linux compares this with what it asked for inside. */
    CHECK_EQ(((struct blkif_response *)(void *)&sring->ring[0])->operation,
             BLKIF_OP_WRITE);
    CHECK(has(0, 'A') && has(39 * 8, 'A' + 39));
    segments[39].gref = 1000;
    CHECK_EQ(ask(slot), BLKIF_RSP_ERROR);
    indirect.indirect_grefs[0] = 1000;
    memcpy(&slot, &indirect, sizeof(indirect));
    CHECK_EQ(ask(slot), BLKIF_RSP_ERROR);
    CHECK_EQ(fake_nr_mapped, 1);
    end();
}

TEST(flush_barrier_discard)
{
    struct blkif_request_discard discard = {BLKIF_OP_DISCARD, 0, 0, 7, 8, 16};
    struct blkif_request slot = {BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 1, 0, {{0}}};
    struct blk_statistics statistics;

    begin(512, 0);
    CHECK_EQ(ask(slot), BLKIF_RSP_OKAY);
    slot.operation = BLKIF_OP_WRITE_BARRIER;
    CHECK_EQ(ask(slot), BLKIF_RSP_OKAY);
    memset(page(DATA), 'w', 8192);
    /* What comes after a barrier ends after it, and what was before before. */
    put(io(BLKIF_OP_WRITE, 1, 0, DATA, 0, 7));
    put(io(BLKIF_OP_WRITE, 2, 8, DATA, 0, 7));
    put(io(BLKIF_OP_WRITE_BARRIER, 3, 16, DATA, 0, 7));
    put(io(BLKIF_OP_WRITE, 4, 24, DATA, 0, 7));
    while (sring->rsp_prod != 6)
        turn();
    rsp_cons += 2;
    CHECK_EQ(answer(3), BLKIF_RSP_OKAY);
    CHECK_EQ(answer(4), BLKIF_RSP_OKAY);
    CHECK(has(8, 'w') && has(16, 'w'));
    memcpy(&slot, &discard, sizeof(discard));
    CHECK_EQ(ask(slot), BLKIF_RSP_OKAY);
    CHECK(has(7, 'w') && has(8, 0) && has(23, 0) && has(24, 'w'));
    CHECK_EQ(ask(io(BLKIF_OP_FLUSH_DISKCACHE, 5, 0, DATA, 0, 0)),
             BLKIF_RSP_OKAY);
    blk_statistics(engine, &statistics);
    CHECK_EQ(statistics.flushes, 4);
    CHECK_EQ(statistics.writes, 5);
    CHECK_EQ(statistics.discard_sectors, 16);
    end();
}

static void wait_submitted(const char *what)
{
    for (int i = 0; i < 100000 && strcmp(fake_submitted, what); i++)
        turn();
    CHECK(!strcmp(fake_submitted, what));
    /* And nothing more follows from it. */
    for (int i = 0; i < 10; i++)
        turn();
    CHECK(!strcmp(fake_submitted, what));
}

TEST(flushes_and_barriers_are_answered_when_it_is_on_the_disk)
{
    begin(512, 0);
    memset(fake_submitted, 0, sizeof(fake_submitted));
    fake_holds_syncs = true;
    memset(page(DATA), 'w', 4096);
    put((struct blkif_request){BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 1, 0, {{0}}});
    wait_submitted("s");
    CHECK_EQ(sring->rsp_prod, 0);
    fake_let_sync();
    CHECK_EQ(answer(1), BLKIF_RSP_OKAY);
    /* A sync of what was before it, the data, a sync of that; then others. */
    put(io(BLKIF_OP_WRITE_BARRIER, 2, 16, DATA, 0, 7));
    put(io(BLKIF_OP_WRITE, 3, 24, DATA, 0, 7));
    wait_submitted("ss");
    fake_let_sync();
    wait_submitted("ssws");
    CHECK(has(16, 'w') && has(24, 0));
    CHECK_EQ(sring->rsp_prod, 1);
    fake_let_sync();
    CHECK_EQ(answer(2), BLKIF_RSP_OKAY);
    CHECK_EQ(answer(3), BLKIF_RSP_OKAY);
    /* A flush with data is as a barrier, but nobody waits for it. */
    put(io(BLKIF_OP_FLUSH_DISKCACHE, 4, 32, DATA, 0, 7));
    put(io(BLKIF_OP_READ, 5, 0, DATA + 1, 0, 7));
    CHECK_EQ(answer(5), BLKIF_RSP_OKAY);
    wait_submitted("sswswsr");
    fake_let_sync();
    wait_submitted("sswswsrws");
    CHECK_EQ(sring->rsp_prod, 4);
    fake_let_sync();
    CHECK_EQ(answer(4), BLKIF_RSP_OKAY);
    fake_holds_syncs = false;
    end();
}

TEST(a_slow_discard_keeps_no_other_waiting)
{
    struct blkif_request_discard discard = {BLKIF_OP_DISCARD, 0, 0, 7, 8, 16};
    struct blkif_request slot = {0};

    begin(512, 0);
    __atomic_store_n(&fake_is_slow, true, __ATOMIC_RELEASE);
    memcpy(&slot, &discard, sizeof(discard));
    put(slot);
    put(slot);
    CHECK_EQ(ask(io(BLKIF_OP_READ, 1, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    /* What is to be on the disk before a barrier includes them. */
    put(io(BLKIF_OP_WRITE_BARRIER, 2, 16, DATA, 0, 7));
    turn();
    CHECK_EQ(sring->rsp_prod, 1);
    __atomic_store_n(&fake_is_slow, false, __ATOMIC_RELEASE);
    CHECK_EQ(answer(7), BLKIF_RSP_OKAY);
    CHECK_EQ(answer(7), BLKIF_RSP_OKAY);
    CHECK_EQ(answer(2), BLKIF_RSP_OKAY);
    /* And those that are on their way when it is to end are waited for. */
    put(slot);
    turn();
    blk_quiesce(engine);
    CHECK_EQ(sring->rsp_prod, 5);
    CHECK(has(8, 0));
    end();
}

static struct blk_statistics counted(void)
{
    struct blk_statistics statistics;

    blk_statistics(engine, &statistics);
    return statistics;
}

/* A request that the host has no memory for stays in the ring. */
TEST(a_shortage_of_the_hosts_waits)
{
    begin(512, 0);
    memset(page(DATA), 'a', 4096);
    fake_nr_short = 3;
    put(io(BLKIF_OP_WRITE, 1, 8, DATA, 0, 7));
    put(io(BLKIF_OP_WRITE_BARRIER, 2, 16, DATA, 0, 7));
    CHECK_EQ(turn().why, BLK_EXIT_SHORTAGE);
    CHECK_EQ(turn().why, BLK_EXIT_KICKED); /* told once */
    CHECK_EQ(sring->rsp_prod, 0);
    CHECK_EQ(counted().depth, 0);
    CHECK_EQ(answer(1), BLKIF_RSP_OKAY);
    CHECK_EQ(answer(2), BLKIF_RSP_OKAY);
    CHECK_EQ(counted().shortages, 3);
    /* And of an indirect request's segments. */
    fake_nr_short = 1;
    *(struct blkif_request_segment *)(void *)page(SEGMENTS) =
        (struct blkif_request_segment){DATA + 1, 0, 7};
    put((struct blkif_request){0});
    *(struct blkif_request_indirect *)(void *)&sring->ring[2] =
        (struct blkif_request_indirect){
            BLKIF_OP_INDIRECT, BLKIF_OP_READ, 1, 3, 8, 0, {SEGMENTS}};
    CHECK_EQ(answer(3), BLKIF_RSP_OKAY);
    CHECK(page(DATA + 1)[0] == 'a' && page(DATA + 1)[4095] == 'a');
    CHECK_EQ(counted().shortages, 4);
    CHECK(!counted().refused && !counted().errors);
    end();
}

static void *run(void *out)
{
    CHECK_EQ(blk_run(engine, out), 0);
    return NULL;
}

/* Nobody sends an event for it: the engine looks again by itself. */
TEST(what_waits_for_the_host_is_looked_at_again)
{
    struct blk_exit out;
    pthread_t thread;

    begin(512, 0);
    fake_nr_short = 4;
    put(io(BLKIF_OP_READ, 1, 8, DATA, 0, 7));
    CHECK_EQ(turn().why, BLK_EXIT_SHORTAGE);
    CHECK_EQ(turn().why, BLK_EXIT_KICKED);
    CHECK_EQ(sring->rsp_prod, 0);
    CHECK(!pthread_create(&thread, NULL, run, &out));
    while (!__atomic_load_n(&sring->rsp_prod, __ATOMIC_ACQUIRE))
        usleep(1000);
    blk_kick(engine);
    pthread_join(thread, NULL);
    CHECK_EQ(answer(1), BLKIF_RSP_OKAY);
    end();
}

/* io_submit(2) and what ends with -ENOMEM have not failed yet. */
TEST(a_shortage_of_the_kernels_is_no_error)
{
    struct blkif_request_discard discard = {BLKIF_OP_DISCARD, 0, 0, 7, 8, 16};
    struct blkif_request slot = {0};

    begin(512, 0);
    memset(page(DATA), 'b', 4096);
    for (int i = 0; i < 2; i++) {
        fake_submit_errno = i ? ENOMEM : EAGAIN;
        fake_nr_unsubmitted = 2;
        CHECK_EQ(ask(io(BLKIF_OP_WRITE, 1, 8, DATA, 0, 7)), BLKIF_RSP_OKAY);
        CHECK_EQ(fake_nr_unsubmitted, 0);
        CHECK(has(8, 'b'));
    }
    fake_nr_results_lost = 2;
    CHECK_EQ(ask(io(BLKIF_OP_READ, 2, 8, DATA + 1, 0, 7)), BLKIF_RSP_OKAY);
    CHECK_EQ(fake_nr_results_lost, 0);
    CHECK_EQ(page(DATA + 1)[0], 'b');
    fake_nr_threads_refused = 2;
    memcpy(&slot, &discard, sizeof(discard));
    CHECK_EQ(ask(slot), BLKIF_RSP_OKAY);
    CHECK_EQ(fake_nr_threads_refused, 0);
    CHECK(has(8, 0));
    CHECK(!counted().refused && !counted().errors);
    /* One that waits to be submitted is answered before the ring is let go. */
    fake_nr_unsubmitted = 1;
    put(io(BLKIF_OP_READ, 3, 8, DATA, 0, 7));
    turn();
    blk_quiesce(engine);
    CHECK_EQ(fake_nr_unsubmitted, 0);
    end();
}

/* With Xen's library the disk gets buffers of ours: see memory.c. */
#ifndef WITH_LIBRARIES_OF_XEN
/* The view that a read-only grant is in cannot be written, by nobody. */
TEST(a_write_gives_the_disk_what_cannot_be_written)
{
    begin(512, 0);
    memset(page(DATA), 'c', 4096);
    memset(fake_submitted, 0, sizeof(fake_submitted));
    CHECK_EQ(ask(io(BLKIF_OP_WRITE, 1, 8, DATA, 0, 7)), BLKIF_RSP_OKAY);
    CHECK(!fake_may_write(fake_buffer));
    CHECK_EQ(ask(io(BLKIF_OP_READ, 1, 8, DATA, 0, 7)), BLKIF_RSP_OKAY);
    CHECK(fake_may_write(fake_buffer));
    end();
}
#endif

TEST(a_failing_volume_is_told_once)
{
    struct blk_exit out;

    begin(512, 0);
    close(volume.fd);
    volume.fd = open("volume", O_WRONLY | O_CLOEXEC); /* the same number */
    put(io(BLKIF_OP_READ, 1, 16, DATA, 0, 7));
    out = turn();
    CHECK_EQ(out.why, BLK_EXIT_VOLUME_ERROR);
    CHECK_EQ(out.error, EBADF);
    CHECK_EQ(out.sector, 16);
    CHECK_EQ(answer(1), BLKIF_RSP_ERROR);
    put(io(BLKIF_OP_READ, 2, 0, DATA, 0, 7));
    CHECK_EQ(turn().why, BLK_EXIT_KICKED);
    CHECK_EQ(answer(2), BLKIF_RSP_ERROR);
    CHECK_EQ(ask(io(BLKIF_OP_WRITE, 3, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    end();
}

TEST(a_volume_that_became_shorter)
{
    begin(512, 0);
    CHECK_EQ(ftruncate(volume.fd, 4096), 0);
    CHECK_EQ(ask(io(BLKIF_OP_READ, 1, 4, DATA, 0, 7)), BLKIF_RSP_ERROR);
    CHECK_EQ(ask(io(BLKIF_OP_READ, 2, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    end();
}

TEST(a_part_that_was_written_is_no_success)
{
    struct rlimit limit, before;
    struct blk_exit out;

    begin(512, 0);
    memset(page(DATA), 'w', 4096);
    /* The file system has room for two sectors more. */
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){10 * 512, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    put(io(BLKIF_OP_WRITE, 1, 8, DATA, 0, 7));
    CHECK_EQ(blk_run(engine, &out), 0);
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(has(9, 'w') && has(10, 0));
    CHECK_EQ(out.why, BLK_EXIT_VOLUME_ERROR);
    CHECK_EQ(out.error, ENOSPC);
    CHECK_EQ(answer(1), BLKIF_RSP_ERROR);
    end();
}

TEST(indices_that_cannot_be)
{
    static const uint32_t bad[] = {NR_SLOTS + 1, 0x80000000, ~0U};

    for (unsigned int i = 0; i < 3; i++) {
        begin(512, 0);
        sring->req_prod = bad[i];
        CHECK_EQ(turn().why, BLK_EXIT_BROKEN_RING);
        CHECK_EQ(sring->rsp_prod, 0);
        end();
    }
    begin(512, 0);
    CHECK_EQ(ask(io(BLKIF_OP_READ, 1, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    sring->req_prod = 0; /* back */
    CHECK_EQ(turn().why, BLK_EXIT_BROKEN_RING);
    end();
}

static bool is_later;

static void *kick_later(void *unused)
{
    (void)unused;
    usleep(300000);
    __atomic_store_n(&is_later, true, __ATOMIC_RELEASE);
    blk_kick(engine);
    return NULL;
}

/* Until a kick of this moment, and none of before. */
static void run_for_a_while(void)
{
    struct blk_exit out;
    pthread_t kicker;

    is_later = false;
    pthread_create(&kicker, NULL, kick_later, NULL);
    CHECK_EQ(blk_run(engine, &out), 0);
    CHECK(__atomic_load_n(&is_later, __ATOMIC_ACQUIRE));
    CHECK_EQ(out.why, BLK_EXIT_KICKED);
    pthread_join(kicker, NULL);
}

TEST(a_kick_that_came_too_late_stops_no_other)
{
    struct blk_ring ring = {
        .domid = 5, .port = FAKE_PORT, .nr_pages = 1, .ref = {RING}};
    struct blk_exit out;

    begin(512, 0);
    sring->req_prod = NR_SLOTS + 1;
    CHECK_EQ(blk_run(engine, &out), 0);
    CHECK_EQ(out.why, BLK_EXIT_BROKEN_RING);
    blk_kick(engine);
    blk_quiesce(engine);
    SHARED_RING_INIT(sring);
    CHECK_EQ(blk_attach(engine, &ring, &volume), 0);
    run_for_a_while();
    end();
}

TEST(attach_refuses)
{
    struct blk_ring ring = {
        .domid = 5, .port = FAKE_PORT, .nr_pages = 2, .ref = {3, FAKE_PAGES}};

    begin(512, 0);
    CHECK_EQ(blk_attach(engine, &ring, &volume), -EBUSY);
    blk_quiesce(engine);
    CHECK_EQ(blk_attach(engine, &ring, &volume), -EINVAL);
    ring.ref[1] = 4;
    ring.port++;
    CHECK_EQ(blk_attach(engine, &ring, &volume), -EINVAL);
    CHECK_EQ(fake_nr_mapped, 0);
    ring.port--;
    ring.abi = 2;
    CHECK_EQ(blk_attach(engine, &ring, &volume), -EINVAL);
    ring.abi = BLK_ABI_32;
    CHECK_EQ(blk_attach(engine, &ring, &volume), 0);
    end();
}

TEST(a_ring_in_use_goes_on)
{
    struct blk_ring ring = {
        .domid = 5, .port = FAKE_PORT, .nr_pages = 1, .ref = {RING}};

    begin(512, 0);
    for (uint64_t id = 1; id < 40; id++)
        CHECK_EQ(ask(io(BLKIF_OP_READ, id, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    blk_quiesce(engine);
    put(io(BLKIF_OP_READ, 40, 0, DATA, 0, 7));
    CHECK_EQ(blk_attach(engine, &ring, &volume), 0);
    CHECK_EQ(answer(40), BLKIF_RSP_OKAY);
    end();
}

TEST(events_only_when_asked_for)
{
    begin(512, 0);
    sring->rsp_event = 3;
    for (uint64_t id = 0; id < 3; id++)
        CHECK_EQ(ask(io(BLKIF_OP_READ, id, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    turn();
    CHECK_EQ(fake_nr_notified, 1);
    CHECK_EQ(sring->req_event, 4);
    end();
}

TEST(a_volume_that_grows)
{
    begin(512, 0);
    CHECK_EQ(ftruncate(volume.fd, (NR_SECTORS + 8) * 512L), 0);
    CHECK_EQ(ask(io(BLKIF_OP_READ, 1, NR_SECTORS, DATA, 0, 7)),
             BLKIF_RSP_ERROR);
    blk_resize(engine, NR_SECTORS + 8);
    CHECK_EQ(ask(io(BLKIF_OP_READ, 1, NR_SECTORS, DATA, 0, 7)), BLKIF_RSP_OKAY);
    CHECK_EQ(ask(io(BLKIF_OP_READ, 1, NR_SECTORS + 1, DATA, 0, 7)),
             BLKIF_RSP_ERROR);
    end();
}

static void begin_limited(struct blk_limiter *limiter, struct blk_limits limits)
{
    struct blk_ring ring = {
        .domid = 5, .port = FAKE_PORT, .nr_pages = 1, .ref = {RING}};

    begin(512, 0);
    blk_quiesce(engine);
    volume.limiter = limiter;
    blk_limiter_set(limiter, &limits);
    CHECK_EQ(blk_attach(engine, &ring, &volume), 0);
}

/* The clock is real, so that each limit is one that no test outlives. */
TEST(a_limit_of_requests_lets_a_burst_through)
{
    struct blk_limiter *limiter = blk_limiter_new();
    struct blk_limits none = {0}, a_byte = {.bytes_per_s = 1};
    struct blk_statistics statistics;

    begin_limited(limiter, (struct blk_limits){.requests_per_s = 1,
                                               .requests_burst = 1000000});
    for (uint64_t id = 0; id < 100; id++)
        CHECK_EQ(ask(io(BLKIF_OP_READ, id, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    blk_statistics(engine, &statistics);
    CHECK_EQ(statistics.throttled, 0);
    end();
    /* A request, and the next an hour later. */
    begin_limited(limiter, a_byte);
    CHECK_EQ(ask(io(BLKIF_OP_WRITE, 1, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    put(io(BLKIF_OP_READ, 2, 0, DATA, 0, 7));
    put(io(BLKIF_OP_READ, 3, 0, DATA, 0, 7));
    for (int i = 0; i < 10; i++)
        turn();
    CHECK_EQ(sring->rsp_prod, 1);
    blk_statistics(engine, &statistics);
    CHECK_EQ(statistics.throttled, 1);
    CHECK_EQ(statistics.depth, 0);
    /* To say it once more gives nothing away. */
    blk_limiter_set(limiter, &a_byte);
    for (int i = 0; i < 10; i++)
        turn();
    CHECK_EQ(sring->rsp_prod, 1);
    /* What is in the ring outlives the engine, and a limit can be lifted. */
    blk_limiter_set(limiter, &none);
    CHECK_EQ(answer(2), BLKIF_RSP_OKAY);
    CHECK_EQ(answer(3), BLKIF_RSP_OKAY);
    end();
    volume.limiter = NULL;
    blk_limiter_free(limiter);
}

/* Who throttles and takes back has an engine that sleeps, and is counted. */
TEST(what_waited_for_a_limit_is_taken_back)
{
    struct blk_limiter *limiter = blk_limiter_new();
    struct blk_limits none = {0};
    struct blk_statistics before, after;

    begin_limited(limiter, (struct blk_limits){.bytes_per_s = 4096 * 10});
    CHECK_EQ(ask(io(BLKIF_OP_WRITE, 1, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    put(io(BLKIF_OP_READ, 2, 0, DATA, 0, 7));
    turn();
    sring->req_prod--;
    blk_statistics(engine, &before);
    CHECK_EQ(before.throttled, 1);
    /* Longer than the limit would have had it wait. */
    run_for_a_while();
    blk_statistics(engine, &after);
    CHECK(after.wakes - before.wakes <= 10);
    CHECK(after.throttled_us > 0);
    blk_limiter_set(limiter, &none);
    CHECK_EQ(ask(io(BLKIF_OP_READ, 2, 0, DATA, 0, 7)), BLKIF_RSP_OKAY);
    end();
    volume.limiter = NULL;
    blk_limiter_free(limiter);
}

TEST(statistics_of_time_and_depth)
{
    struct blk_statistics statistics;
    uint64_t nr_reads = 0, nr_flushes = 0;

    begin(512, 0);
    for (uint64_t id = 0; id < 5; id++)
        put(io(BLKIF_OP_READ, id, 0, DATA, 0, 7));
    for (uint64_t id = 0; id < 5; id++)
        CHECK_EQ(answer(id), BLKIF_RSP_OKAY);
    put((struct blkif_request){BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 9, 0, {{0}}});
    CHECK_EQ(answer(9), BLKIF_RSP_OKAY);
    blk_statistics(engine, &statistics);
    for (int i = 0; i < BLK_LATENCY_BUCKETS; i++) {
        nr_reads += statistics.read_latency[i];
        nr_flushes += statistics.flush_latency[i];
        CHECK_EQ(statistics.write_latency[i], 0);
    }
    CHECK_EQ(nr_reads, 5);
    CHECK_EQ(nr_flushes, 1);
    CHECK(statistics.max_depth >= 1 && statistics.max_depth <= 5);
    CHECK_EQ(statistics.depth, 0);
    end();
}
