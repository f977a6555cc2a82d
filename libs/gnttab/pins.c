/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is mapped is held (vmcore_hold()), or a guest that gives it back while
 * the host has no memory would end the mapper by SIGBUS.
 *
 * A grant lasts for a packet; to ask the kernel twice for each would cost more
 * than the rest of it. So chunks of frames are held, and the last ones that
 * went out of use stay so for a while: 4 MiB that a guest does not get rid of.
 */
#include <stdlib.h>

#include "grants.h"

#define CHUNK_FRAMES 8

struct hold {
    struct hold *next;
    uint64_t chunk;
    unsigned int users;
    bool is_in_ring;
    uint8_t there; /* frames that are known to have memory */
};

static struct hold **hold_at(struct granter *granter, uint64_t chunk)
{
    struct hold **link = &granter->holds[chunk % NR_HOLD_BUCKETS];

    while (*link && (*link)->chunk != chunk)
        link = &(*link)->next;
    return link;
}

struct hold *frame_hold(struct granter *granter, uint64_t frame, bool *is_there)
{
    uint64_t chunk = frame / CHUNK_FRAMES;
    uint8_t bit = (uint8_t)(1U << frame % CHUNK_FRAMES);
    struct hold **link = hold_at(granter, chunk), *hold = *link;

    if (!hold) {
        hold = calloc(1, sizeof(*hold));
        if (!hold)
            return NULL;
        if (vmcore_hold(&granter->core, chunk * CHUNK_FRAMES, CHUNK_FRAMES)) {
            free(hold);
            return NULL;
        }
        hold->chunk = chunk;
        hold->there = vmcore_is_whole(&granter->core) ? 0xff : 0;
        *link = hold;
    }
    /* Nobody takes it away while the chunk is held: to look once is enough. */
    if (!(hold->there & bit) && vmcore_fill(&granter->core, frame, 1))
        hold->there |= bit;
    hold->users++;
    *is_there = hold->there & bit;
    return hold;
}

static void drop(struct granter *granter, struct hold *hold)
{
    *hold_at(granter, hold->chunk) = hold->next;
    vmcore_release(&granter->core, hold->chunk * CHUNK_FRAMES, CHUNK_FRAMES);
    free(hold);
}

void frame_release(struct granter *granter, struct hold *hold)
{
    struct hold *oldest;

    if (--hold->users || hold->is_in_ring)
        return;
    oldest = granter->idle[granter->next_idle];
    granter->idle[granter->next_idle] = hold;
    granter->next_idle = (granter->next_idle + 1) % NR_IDLE_HOLDS;
    hold->is_in_ring = true;
    if (!oldest)
        return;
    oldest->is_in_ring = false;
    if (!oldest->users)
        drop(granter, oldest);
}

void holds_free(struct granter *granter)
{
    for (int i = 0; i < NR_HOLD_BUCKETS; i++) {
        while (granter->holds[i])
            drop(granter, granter->holds[i]);
    }
}
