/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes and reads whose every answer is checked, while backends die. */
#include "tests/support/blk/frontend.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_SECTORS 8
#define BLOCKS_EACH 16 /* of the disk, for each request in flight */
#define NR_REPORTS 8

/* What blocks are written with, one after the other, when it is mixed. */
static const uint8_t mix[] = {
    BLKIF_OP_WRITE, BLKIF_OP_WRITE,           BLKIF_OP_WRITE_BARRIER,
    BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_DISCARD,
};

/* What one request in flight does, and has done. */
struct lane {
    uint32_t number;               /* of all queues' */
    uint64_t version[BLOCKS_EACH]; /* last written; 0: never */
    bool is_discarded[BLOCKS_EACH];
    uint64_t asked;
    uint32_t block;
    bool is_busy, is_read;
};

/* One queue, in a thread of its own. */
struct run {
    pthread_t thread;
    struct frontend *f;
    bool is_mixed;
    uint32_t count, depth, answered, wrong;
};

static void stamp(uint64_t *page, const struct lane *lane, uint64_t version)
{
    for (int i = 0; i < 512; i += 2) {
        page[i] = (uint64_t)lane->number << 32 | lane->block;
        page[i + 1] = version;
    }
}

static void put_discard(struct frontend *f, uint64_t id, uint64_t sector)
{
    struct blkif_request request = {.id = 0};
    struct blkif_request_discard discard = {BLKIF_OP_DISCARD, 0, 0, id, sector,
                                            BLOCK_SECTORS};

    memcpy(&request, &discard, sizeof(discard));
    put(f, &request);
}

/* A write of a block, and then, the next time, a read of it. */
static void ask(struct run *run, uint64_t id, struct lane *lane)
{
    struct frontend *f = run->f;
    uint32_t page = DATA_PAGE + lane->number;
    uint64_t turn = lane->asked++ / 2, sector;
    uint8_t op = run->is_mixed ? mix[turn % sizeof(mix)] : BLKIF_OP_WRITE;

    lane->is_read = lane->asked % 2 == 0;
    lane->block = (uint32_t)(turn % BLOCKS_EACH);
    sector = (lane->number * BLOCKS_EACH + lane->block) * BLOCK_SECTORS;
    if (lane->is_read)
        memset(page_at(f, page), 0xee, 4096);
    else
        stamp((uint64_t *)(void *)page_at(f, page), lane,
              ++lane->version[lane->block]);
    lane->is_busy = true;
    if (lane->is_read) {
        put_io(f, BLKIF_OP_READ, id, sector, BLOCK_SECTORS, page);
        return;
    }
    lane->is_discarded[lane->block] = op == BLKIF_OP_DISCARD;
    if (op == BLKIF_OP_DISCARD)
        put_discard(f, id, sector);
    else
        put_io(f, op, id, sector, BLOCK_SECTORS, page);
}

static bool is_right(struct frontend *f, struct lane *lane,
                     const struct blkif_response *response)
{
    uint64_t expected[512] = {0};

    /* Once, and well. */
    if (!lane->is_busy || response->status != BLKIF_RSP_OKAY)
        return false;
    lane->is_busy = false;
    if (!lane->is_read)
        return true;
    if (!lane->is_discarded[lane->block])
        stamp(expected, lane, lane->version[lane->block]);
    return !memcmp(page_at(f, DATA_PAGE + lane->number), expected, 4096);
}

static void *run_one(void *argument)
{
    struct run *run = argument;
    struct frontend *f = run->f;
    struct lane lanes[MAX_DEPTH] = {0};
    struct blkif_response response;
    uint32_t asked = 0;

    for (uint32_t i = 0; i < run->depth; i++)
        lanes[i].number = f->number * run->depth + i;
    while (asked < run->depth && asked < run->count)
        ask(run, asked, &lanes[asked]), asked++;
    push(f);
    while (run->answered < asked) {
        take_wait(f, &response);
        do {
            must(response.id < run->depth, "an id of nobody's");
            run->wrong += !is_right(f, &lanes[response.id], &response);
            run->answered++;
            if (!f->number && run->answered % (run->count / NR_REPORTS) == 0)
                printf("at=%u\n", run->answered);
            if (asked < run->count)
                ask(run, response.id, &lanes[response.id]), asked++;
        } while (take(f, &response));
        push(f);
    }
    return NULL;
}

void verify(struct frontend *queues, uint32_t count, uint32_t depth,
            bool is_mixed)
{
    struct run runs[MAX_QUEUES] = {0};
    uint32_t nr_queues = 0, answered = 0, wrong = 0;

    while (nr_queues < MAX_QUEUES && queues[nr_queues].sring)
        nr_queues++;
    must(depth <= queues->nr_slots && nr_queues * depth <= MAX_DEPTH, "depth");
    for (uint32_t i = 0; i < nr_queues; i++) {
        runs[i] = (struct run){.f = &queues[i],
                               .is_mixed = is_mixed,
                               .count = count,
                               .depth = depth};
        must(!pthread_create(&runs[i].thread, NULL, run_one, &runs[i]),
             "thread");
    }
    for (uint32_t i = 0; i < nr_queues; i++) {
        pthread_join(runs[i].thread, NULL);
        answered += runs[i].answered;
        wrong += runs[i].wrong;
    }
    printf("answers=%u wrong=%u\n", answered, wrong);
}
