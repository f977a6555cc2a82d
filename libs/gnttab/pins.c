/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is mapped is pinned (vmcore_pin()), or a guest that gives it back while
 * the host has no memory would end the mapper by SIGBUS.
 *
 * A grant lasts for a packet; to ask the kernel twice for each would cost more
 * than the rest of it. So chunks of frames are pinned, and the last ones that
 * went out of use stay so for a while: 4 MiB that a guest does not get rid of.
 */
#include <assert.h>
#include <stdlib.h>

#include "grants.h"

#define CHUNK_FRAMES 8

struct pin {
    struct pin *next;
    uint64_t chunk;
    unsigned int users;
    bool is_in_ring;
    uint8_t there; /* frames that are known to have memory */
};

static struct pin **pin_at(struct grantor *grantor, uint64_t chunk)
{
    struct pin **link = &grantor->pins[chunk % NR_PIN_BUCKETS];

    while (*link && (*link)->chunk != chunk)
        link = &(*link)->next;
    return link;
}

struct pin *frame_pin(struct grantor *grantor, uint64_t frame, bool *is_there)
{
    uint64_t chunk = frame / CHUNK_FRAMES;
    uint8_t bit = (uint8_t)(1U << frame % CHUNK_FRAMES);
    struct pin **link = pin_at(grantor, chunk), *pin = *link;

    if (!pin) {
        pin = calloc(1, sizeof(*pin));
        if (!pin)
            return NULL;
        if (vmcore_pin(&grantor->core, chunk * CHUNK_FRAMES, CHUNK_FRAMES)) {
            free(pin);
            return NULL;
        }
        pin->chunk = chunk;
        pin->there = vmcore_is_whole(&grantor->core) ? 0xff : 0;
        *link = pin;
    }
    /* Nobody takes it away while the chunk is pinned: to look once is enough. */
    if (!(pin->there & bit) && vmcore_fill(&grantor->core, frame, 1))
        pin->there |= bit;
    pin->users++;
    *is_there = pin->there & bit;
    return pin;
}

/* `link` leads to it. */
static void drop(struct grantor *grantor, struct pin **link)
{
    struct pin *pin = *link;

    assert(pin);
    *link = pin->next;
    vmcore_unpin(&grantor->core, pin->chunk * CHUNK_FRAMES, CHUNK_FRAMES);
    free(pin);
}

void frame_unpin(struct grantor *grantor, struct pin *pin)
{
    struct pin *oldest;

    if (--pin->users || pin->is_in_ring)
        return;
    oldest = grantor->idle[grantor->next_idle];
    grantor->idle[grantor->next_idle] = pin;
    grantor->next_idle = (grantor->next_idle + 1) % NR_IDLE_PINS;
    pin->is_in_ring = true;
    if (!oldest)
        return;
    oldest->is_in_ring = false;
    if (!oldest->users)
        drop(grantor, pin_at(grantor, oldest->chunk));
}

void pins_free(struct grantor *grantor)
{
    for (int i = 0; i < NR_PIN_BUCKETS; i++) {
        while (grantor->pins[i])
            drop(grantor, &grantor->pins[i]);
    }
}
