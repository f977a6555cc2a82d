/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes and reads whose every answer is checked, while backends die. */
#include "tests/component/blkbackd/frontend.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_SECTORS 8
#define BLOCKS_EACH 16 /* of the disk, for each request in flight */
#define NR_REPORTS 8

/* What one request in flight does, and has done. */
struct lane {
    uint32_t number;               /* of all queues' */
    uint64_t version[BLOCKS_EACH]; /* last written; 0: never */
    uint64_t asked;
    uint32_t block;
    bool is_busy, is_read;
};

/* One queue, in a thread of its own. */
struct run {
    pthread_t thread;
    struct frontend *f;
    uint32_t count, depth, answered, wrong;
};

static void stamp(uint64_t *page, const struct lane *lane, uint64_t version)
{
    for (int i = 0; i < 512; i += 2) {
        page[i] = (uint64_t)lane->number << 32 | lane->block;
        page[i + 1] = version;
    }
}

/* A write of a block, and then, the next time, a read of it. */
static void ask(struct frontend *f, uint64_t id, struct lane *lane)
{
    uint32_t page = DATA_PAGE + lane->number;
    uint64_t sector;

    lane->is_read = lane->asked % 2;
    lane->block = (uint32_t)(lane->asked / 2 % BLOCKS_EACH);
    lane->asked++;
    if (lane->is_read)
        memset(page_at(f, page), 0, 4096);
    else
        stamp((uint64_t *)(void *)page_at(f, page), lane,
              ++lane->version[lane->block]);
    sector = (lane->number * BLOCKS_EACH + lane->block) * BLOCK_SECTORS;
    put_io(f, lane->is_read ? BLKIF_OP_READ : BLKIF_OP_WRITE, id, sector,
           BLOCK_SECTORS, page);
    lane->is_busy = true;
}

static bool is_right(struct frontend *f, struct lane *lane,
                     const struct blkif_response *response)
{
    uint64_t expected[512];

    /* Once, and well. */
    if (!lane->is_busy || response->status != BLKIF_RSP_OKAY)
        return false;
    lane->is_busy = false;
    if (!lane->is_read)
        return true;
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
        ask(f, asked, &lanes[asked]), asked++;
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
                ask(f, response.id, &lanes[response.id]), asked++;
        } while (take(f, &response));
        push(f);
    }
    return NULL;
}

void verify(struct frontend *queues, uint32_t count, uint32_t depth)
{
    struct run runs[MAX_QUEUES] = {0};
    uint32_t nr_queues = 0, answered = 0, wrong = 0;

    while (nr_queues < MAX_QUEUES && queues[nr_queues].sring)
        nr_queues++;
    must(depth <= queues->nr_slots && nr_queues * depth <= MAX_DEPTH, "depth");
    for (uint32_t i = 0; i < nr_queues; i++) {
        runs[i] = (struct run){.f = &queues[i], .count = count, .depth = depth};
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
