/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an engine that died had taken, and whose it is. */
#define _GNU_SOURCE
#include "tests/native/harness.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "blkbackd/csrc/engine.h"
#include "tests/native/blk_fakes.h"
#include "tests/native/blk_submitted.h"

#define RING 20
#define NR_SECTORS 2048
#define KEY 77

static struct blkif_sring *sring;
static struct blk_volume volume;
static struct blk_ring ring;
static struct blk_engine *engine;

static int open_file(const char *name, off_t bytes)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, bytes))
        exit(1);
    return fd;
}

static void run(void)
{
    struct blk_exit out;

    blk_kick(engine);
    CHECK_EQ(blk_run(engine, &out), 0);
}

/* An engine that comes, and takes what is in the ring if it is to run. */
static void come(uint64_t key, bool is_to_run)
{
    ring.record_key = key;
    engine = blk_new();
    CHECK(engine != NULL);
    CHECK_EQ(blk_attach(engine, &ring, &volume), 0);
    if (is_to_run)
        run();
}

/* Of the sectors that are discarded. */
static void put_read(void)
{
    sring->ring[1].req =
        (struct blkif_request){BLKIF_OP_READ, 1, 0, 8, 8, {{22, 0, 7}}};
    sring->req_prod = 2;
}

/* Sectors with something in them, and one that dies while it discards them. */
static void begin(void)
{
    struct blkif_request_discard discard = {BLKIF_OP_DISCARD, 0, 0, 7, 8, 16};
    char block[4096];
    int status;
    pid_t pid;

    fake_domain_new();
    sring = (void *)(fake_memory + RING * 4096L);
    SHARED_RING_INIT(sring);
    volume = (struct blk_volume){.fd = open_file("volume", NR_SECTORS * 512L),
                                 .block_bytes = 512,
                                 .memory_align = 1,
                                 .can_discard = 1,
                                 .nr_sectors = NR_SECTORS};
    memset(block, 'a', sizeof(block));
    CHECK_EQ(pwrite(volume.fd, block, 4096, 4096), 4096);
    ring =
        (struct blk_ring){.domid = 5,
                          .port = FAKE_PORT,
                          .nr_pages = 1,
                          .ref = {RING},
                          .record_fd = open_file("record", BLK_RECORD_BYTES)};
    memcpy(&sring->ring[0], &discard, sizeof(discard));
    sring->req_prod = 1;
    __atomic_store_n(&fake_is_slow, true, __ATOMIC_RELEASE);
    pid = fork();
    if (!pid) {
        come(KEY, true);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    __atomic_store_n(&fake_is_slow, false, __ATOMIC_RELEASE);
    CHECK_EQ(sring->rsp_prod, 0);
}

/* All is answered. */
static void leave(void)
{
    blk_free(engine);
    fake_domain_free();
    close(ring.record_fd);
    close(volume.fd);
}

static bool is_discarded(void)
{
    char byte;

    CHECK_EQ(pread(volume.fd, &byte, 1, 4096), 1);
    return !byte;
}

TEST(the_same_ring_s_is_done_once)
{
    begin();
    /* Taken from the record: the frontend may have reused the slot. */
    memset(&sring->ring[0], 0xff, sizeof(sring->ring[0]));
    come(KEY, true);
    blk_quiesce(engine);
    CHECK_EQ(sring->rsp_prod, 1);
    CHECK_EQ(sring->ring[0].rsp.id, 7);
    CHECK_EQ(sring->ring[0].rsp.status, BLKIF_RSP_OKAY);
    CHECK(is_discarded());
    blk_free(engine);
    /* And not by the next. */
    come(KEY, true);
    blk_quiesce(engine);
    CHECK_EQ(sring->rsp_prod, 1);
    leave();
}

TEST(another_ring_s_is_never_done)
{
    begin();
    SHARED_RING_INIT(sring);
    come(KEY + 1, true);
    blk_quiesce(engine);
    CHECK_EQ(sring->rsp_prod, 0);
    CHECK(!is_discarded());
    leave();
}

/* As of one that was cut off, or is of another make. */
TEST(one_that_makes_no_sense_is_never_done)
{
    uint32_t far = 9; /* the ring's place after KEY: what was taken */

    begin();
    CHECK_EQ(pwrite(ring.record_fd, &far, sizeof(far), 8), 4);
    SHARED_RING_INIT(sring);
    come(KEY, true);
    blk_quiesce(engine);
    CHECK_EQ(sring->rsp_prod, 0);
    CHECK(!is_discarded());
    leave();
}

TEST(nor_after_another_ring_was_there)
{
    begin();
    SHARED_RING_INIT(sring);
    come(KEY + 1, false);
    blk_quiesce(engine);
    blk_free(engine);
    come(KEY, true);
    blk_quiesce(engine);
    CHECK_EQ(sring->rsp_prod, 0);
    CHECK(!is_discarded());
    leave();
}

/* What the host has no room for is left to the next one, and done once. */
TEST(what_cannot_be_begun_stays_on_record)
{
    begin();
    fake_nr_threads_refused = ~0U;
    come(KEY, true);
    put_read();
    /* Nor is anything taken that is newer. */
    CHECK_EQ(sring->rsp_prod, 0);
    CHECK_EQ(blk_quiesce(engine), 1);
    CHECK_EQ(sring->rsp_prod, 0);
    blk_free(engine);
    fake_nr_threads_refused = 1;
    come(KEY, false);
    while (sring->rsp_prod != 2)
        run();
    blk_quiesce(engine);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(sring->ring[i].rsp.status, BLKIF_RSP_OKAY);
    CHECK_EQ(sring->ring[0].rsp.id + sring->ring[1].rsp.id, 7 + 8);
    CHECK(is_discarded());
    leave();
}
