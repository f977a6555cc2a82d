/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes and reads whose every answer is checked, while backends die. */
#include "tests/component/blkbackd/frontend.h"

#include <stdio.h>
#include <string.h>

#define BLOCK_SECTORS 8
#define BLOCKS_EACH 16 /* of the disk, for each request in flight */
#define NR_REPORTS 8

/* What one request in flight does, and has done. */
struct lane {
    uint64_t version[BLOCKS_EACH]; /* last written; 0: never */
    uint64_t asked;
    uint32_t block;
    bool is_busy, is_read;
};

static void stamp(uint64_t *page, uint64_t id, const struct lane *lane,
                  uint64_t version)
{
    for (int i = 0; i < 512; i += 2) {
        page[i] = id << 32 | lane->block;
        page[i + 1] = version;
    }
}

/* A write of a block, and then, the next time, a read of it. */
static void ask(struct frontend *f, uint64_t id, struct lane *lane)
{
    uint32_t page = DATA_PAGE + (uint32_t)id;
    uint64_t sector;

    lane->is_read = lane->asked % 2;
    lane->block = (uint32_t)(lane->asked / 2 % BLOCKS_EACH);
    lane->asked++;
    if (lane->is_read)
        memset(page_at(f, page), 0, 4096);
    else
        stamp((uint64_t *)(void *)page_at(f, page), id, lane,
              ++lane->version[lane->block]);
    sector = (id * BLOCKS_EACH + lane->block) * BLOCK_SECTORS;
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
    stamp(expected, response->id, lane, lane->version[lane->block]);
    return !memcmp(page_at(f, DATA_PAGE + (uint32_t)response->id), expected,
                   4096);
}

void verify(struct frontend *f, uint32_t count, uint32_t depth)
{
    static struct lane lanes[MAX_DEPTH];
    struct blkif_response response;
    uint32_t answered = 0, asked = 0, wrong = 0;

    must(depth <= MAX_DEPTH && depth <= f->nr_slots, "depth");
    memset(lanes, 0, sizeof(lanes));
    while (asked < depth && asked < count)
        ask(f, asked, &lanes[asked]), asked++;
    push(f);
    while (answered < asked) {
        take_wait(f, &response);
        do {
            must(response.id < depth, "an id of nobody's");
            wrong += !is_right(f, &lanes[response.id], &response);
            answered++;
            if (answered % (count / NR_REPORTS) == 0)
                printf("at=%u\n", answered);
            if (asked < count)
                ask(f, response.id, &lanes[response.id]), asked++;
        } while (take(f, &response));
        push(f);
    }
    printf("answers=%u wrong=%u\n", answered, wrong);
}
