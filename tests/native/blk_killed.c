/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An engine that is killed between any two of its instructions. A child serves
 * a ring one instruction at a time; whenever it has changed the ring or its
 * record, all that would outlive it is kept, and later an engine begins with
 * each of those: every request is done, and answered once.
 */
#define _GNU_SOURCE
#include "tests/native/harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "blkbackd/csrc/engine.h"
#include "tests/native/blk_fakes.h"

#define RING 20
#define PAGES 4 /* the ring, what is written, and what is read */
#define NR_SLOTS 32
#define VOLUME_BYTES 32768
#define RECORD_BYTES 8192 /* as far as a ring of one page needs it */
#define KEY 77
#define MAX_MOMENTS 4000
/* The indices pass 0 while it works. */
#define FIRST 0xfffffffdU

static const struct {
    uint8_t op;
    uint32_t sector, gref;
    int16_t status;
} asked[] = {
    /* Answered, in its own place, before the others are taken. */
    {BLKIF_OP_WRITE, 0, 1000, BLKIF_RSP_ERROR},
    {BLKIF_OP_WRITE, 0, RING + 1, BLKIF_RSP_OKAY},
    {BLKIF_OP_READ, 8, RING + 3, BLKIF_RSP_OKAY},
    {BLKIF_OP_WRITE_BARRIER, 16, RING + 1, BLKIF_RSP_OKAY},
    /* And when all of these are answered: */
    {BLKIF_OP_DISCARD, 24, 0, BLKIF_RSP_OKAY},
    {BLKIF_OP_FLUSH_DISKCACHE, 32, RING + 2, BLKIF_RSP_OKAY},
    {BLKIF_OP_WRITE, 40, RING + 2, BLKIF_RSP_OKAY},
};
#define NR_ASKED (sizeof(asked) / sizeof(asked[0]))
#define NR_AT_FIRST 4

/* What outlives a process. */
struct moment {
    char pages[PAGES * 4096], record[RECORD_BYTES], volume[VOLUME_BYTES];
};

static struct moment *moments;
static unsigned int nr_moments;
static struct blkif_sring *sring;
static char *record;
static struct blk_volume volume;
static struct blk_ring ring;

/* In memory: a disk that takes its time would be waited for step by step. */
static int open_file(const char *name, off_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, bytes))
        exit(1);
    return fd;
}

static char *pages(void)
{
    return fake_memory + RING * 4096L;
}

/* Nothing has been asked. */
static void begin(void)
{
    char block[VOLUME_BYTES];

    fake_domain_new();
    sring = (void *)pages();
    SHARED_RING_INIT(sring);
    sring->req_prod = sring->rsp_prod = FIRST;
    memset(pages() + 4096, 'w', 4096);
    memset(pages() + 8192, 'f', 4096);
    volume = (struct blk_volume){.fd = open_file("volume", VOLUME_BYTES),
                                 .block_bytes = 512,
                                 .memory_align = 1,
                                 .can_discard = 1,
                                 .nr_sectors = VOLUME_BYTES / 512};
    memset(block, 'd', sizeof(block));
    CHECK_EQ(pwrite(volume.fd, block, sizeof(block), 0), VOLUME_BYTES);
    ring = (struct blk_ring){.domid = 5,
                             .port = FAKE_PORT,
                             .nr_pages = 1,
                             .ref = {RING},
                             .record_fd = open_file("record", BLK_RECORD_BYTES),
                             .record_key = KEY};
    record = mmap(NULL, RECORD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                  ring.record_fd, 0);
    CHECK(record != MAP_FAILED);
    moments = calloc(MAX_MOMENTS, sizeof(*moments));
    nr_moments = 0;
}

static void end(void)
{
    free(moments);
    munmap(record, RECORD_BYTES);
    close(ring.record_fd);
    close(volume.fd);
    fake_domain_free();
}

static void put(unsigned int number)
{
    struct blkif_request request = {.operation = asked[number].op,
                                    .nr_segments = 1,
                                    .id = number,
                                    .sector_number = asked[number].sector,
                                    .seg = {{asked[number].gref, 0, 7}}};
    struct blkif_request_discard discard = {BLKIF_OP_DISCARD,     0, 0, number,
                                            asked[number].sector, 8};

    if (request.operation == BLKIF_OP_DISCARD)
        memcpy(&request, &discard, sizeof(discard));
    memcpy(&sring->ring[sring->req_prod % NR_SLOTS], &request, sizeof(request));
    __atomic_store_n(&sring->req_prod, sring->req_prod + 1, __ATOMIC_RELEASE);
}

/* At its own pace: that the disk is waited for in steps is no use to anybody. */
static void *stop_when_answered(void *engine)
{
    while (__atomic_load_n(&sring->rsp_prod, __ATOMIC_ACQUIRE) !=
           sring->req_prod)
        usleep(100);
    blk_kick(engine);
    return NULL;
}

static void serve(struct blk_engine *engine)
{
    struct blk_exit out;
    pthread_t thread;

    CHECK(!pthread_create(&thread, NULL, stop_when_answered, engine));
    CHECK_EQ(blk_run(engine, &out), 0);
    CHECK_EQ(out.why, BLK_EXIT_KICKED);
    pthread_join(thread, NULL);
}

/* The child: all of it, from the ring's being mapped. */
static void live(bool is_first)
{
    struct blk_engine *engine = blk_new();

    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    if (blk_attach(engine, &ring, &volume))
        _exit(1);
    for (unsigned int i = 0; is_first && i < NR_AT_FIRST; i++)
        put(i);
    serve(engine);
    for (unsigned int i = NR_AT_FIRST; is_first && i < NR_ASKED; i++)
        put(i);
    serve(engine);
    _exit(0);
}

/* Keep what there is now, if it is not what there was. */
static void look(void)
{
    struct moment *now = &moments[nr_moments];

    if (nr_moments && !memcmp(now[-1].pages, pages(), 4096) &&
        !memcmp(now[-1].record, record, RECORD_BYTES))
        return;
    if (nr_moments == MAX_MOMENTS)
        exit(1);
    memcpy(now->pages, pages(), sizeof(now->pages));
    memcpy(now->record, record, RECORD_BYTES);
    CHECK_EQ(pread(volume.fd, now->volume, VOLUME_BYTES, 0), VOLUME_BYTES);
    nr_moments++;
}

/* All the moments of a child's life. */
static void watch_a_life(bool is_first)
{
    int status;
    pid_t pid = fork();

    if (!pid)
        live(is_first);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    while (!ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL)) {
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        if (!WIFSTOPPED(status))
            break;
        look();
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void restore(const struct moment *moment)
{
    memcpy(pages(), moment->pages, sizeof(moment->pages));
    memcpy(record, moment->record, RECORD_BYTES);
    CHECK_EQ(pwrite(volume.fd, moment->volume, VOLUME_BYTES, 0), VOLUME_BYTES);
}

static bool is_filled(const char *bytes, char with)
{
    return bytes[0] == with && !memcmp(bytes, bytes + 1, 4095);
}

/* Has the request done what it was to do? */
static void check_done(unsigned int number)
{
    char block[4096];

    CHECK_EQ(pread(volume.fd, block, 4096, asked[number].sector * 512L), 4096);
    switch (asked[number].op) {
    case BLKIF_OP_READ:
        CHECK(is_filled(pages() + 3 * 4096, 'd'));
        break;
    case BLKIF_OP_DISCARD:
        CHECK(is_filled(block, 0));
        break;
    default:
        if (asked[number].status == BLKIF_RSP_OKAY)
            CHECK(is_filled(block, asked[number].gref == RING + 1 ? 'w' : 'f'));
    }
}

/* What is asked as of a moment is done by an engine that begins there. */
static void check_moment(const struct moment *moment)
{
    const struct blkif_sring *before = (const void *)moment->pages;
    struct blk_engine *engine = blk_new();
    uint32_t answered = 0;

    restore(moment);
    CHECK_EQ(blk_attach(engine, &ring, &volume), 0);
    serve(engine);
    blk_quiesce(engine);
    blk_free(engine);
    CHECK_EQ(sring->req_prod, before->req_prod);
    for (uint32_t i = FIRST; i != sring->rsp_prod; i++) {
        const struct blkif_response *response = &sring->ring[i % NR_SLOTS].rsp;

        CHECK(response->id < NR_ASKED);
        if (failures)
            return;
        answered |= 1U << response->id;
        CHECK_EQ(response->status, asked[response->id].status);
        check_done((unsigned int)response->id);
        /* What the frontend may have taken already stays as it was. */
        if (i - FIRST < before->rsp_prod - FIRST)
            CHECK(!memcmp(response, &before->ring[i % NR_SLOTS].rsp,
                          sizeof(*response)));
    }
    CHECK_EQ(answered, (1U << (sring->req_prod - FIRST)) - 1);
}

TEST(nothing_is_lost_or_answered_twice)
{
    begin();
    watch_a_life(true);
    /* Each store is one, and there are more than these of each request. */
    CHECK(nr_moments > 8 * NR_ASKED);
    for (unsigned int i = 0; i < nr_moments && !failures; i++)
        check_moment(&moments[i]);
    end();
}

/* The second one is killed too, while it does what the first has left. */
TEST(nor_by_one_that_comes_after_it)
{
    struct moment *first;
    unsigned int nr_first;

    begin();
    watch_a_life(true);
    first = moments;
    nr_first = nr_moments;
    moments = calloc(MAX_MOMENTS, sizeof(*moments));
    for (unsigned int i = 1; i < 4 && !failures; i++) {
        restore(&first[nr_first * i / 4]);
        nr_moments = 0;
        watch_a_life(false);
        for (unsigned int j = 0; j < nr_moments && !failures; j++)
            check_moment(&moments[j]);
    }
    free(first);
    end();
}
