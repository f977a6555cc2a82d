/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The in-flight record: which requests have been taken and not answered, in a
 * file that outlives us. Answers overwrite the ring's slots in the order in
 * which disks end, so that the ring alone does not say it.
 *
 * We may be killed between any two stores. The file and the guest's memory
 * are shared mappings: what was stored before is there, in that order.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "state.h"

_Static_assert(sizeof(struct record) +
                       sizeof(struct record_entry) * BLK_MAX_RING_SLOTS <=
                   BLK_RECORD_BYTES,
               "the largest ring has room");

enum { FREE, TAKEN, ANSWERED };

#define STORE(where, value) __atomic_store_n(&(where), value, __ATOMIC_RELEASE)

static struct record_entry *entry_of(struct blk_engine *e,
                                     const struct work *work)
{
    return &e->record->entry[work - e->works];
}

void record_take(struct blk_engine *e, const struct work *work,
                 const void *slot)
{
    struct record_entry *entry;

    if (!e->record)
        return;
    entry = entry_of(e, work);
    memcpy(entry->slot, slot, e->slot_bytes);
    entry->index = e->req_cons;
    STORE(entry->state, TAKEN);
    /* Killed before this, it is still the ring's. */
    STORE(e->record->req_cons, e->req_cons + 1);
}

void record_answer(struct blk_engine *e, const struct work *work)
{
    struct record_entry *entry;

    if (!e->record)
        return;
    entry = entry_of(e, work);
    entry->answer = e->rsp_prod;
    STORE(entry->state, ANSWERED);
    STORE(e->record->rsp_prod, e->rsp_prod + 1);
    STORE(entry->state, FREE);
}

/* Make the entries say what was true at the end; how many are TAKEN. */
static uint32_t settle(struct blk_engine *e)
{
    struct record *record = e->record;
    uint32_t nr_taken = 0;

    for (uint32_t i = 0; i < e->nr_slots; i++) {
        struct record_entry *entry = &record->entry[i];

        /* Its answer was in the ring, but perhaps not counted. */
        if (entry->state == ANSWERED && entry->answer == record->rsp_prod)
            record->rsp_prod++;
        if (entry->state == ANSWERED ||
            (entry->state == TAKEN && entry->index == record->req_cons))
            entry->state = FREE;
        nr_taken += entry->state == TAKEN;
    }
    return nr_taken;
}

/* Is it this ring's, and does it make sense? */
static bool is_of_this_ring(struct blk_engine *e)
{
    struct record *record = e->record;

    if (record->key != e->ring.record_key)
        return false;
    return settle(e) == record->req_cons - record->rsp_prod &&
           record->rsp_prod - e->rsp_prod <= e->nr_slots;
}

/* Go on where another has been killed. */
static void recover(struct blk_engine *e)
{
    e->req_cons = e->record->req_cons;
    e->rsp_prod = e->record->rsp_prod;
    e->free = NULL;
    for (uint32_t i = e->nr_slots; i--;) {
        struct work *work = &e->works[i];

        work->is_redo = e->record->entry[i].state == TAKEN;
        e->nr_redo += work->is_redo;
        if (!work->is_redo) {
            work->next = e->free;
            e->free = work;
        }
    }
    /* It may have been killed between its answers and the event for them. */
    xenevtchn_notify(e->xce, e->port);
}

int record_attach(struct blk_engine *e)
{
    void *map;

    e->record = NULL;
    e->nr_redo = 0;
    if (!e->ring.record_fd)
        return 0;
    map = mmap(NULL, BLK_RECORD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
               e->ring.record_fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    e->record = map;
    if (is_of_this_ring(e)) {
        recover(e);
        return 0;
    }
    STORE(e->record->key, 0);
    memset(e->record->entry, 0, e->nr_slots * sizeof(struct record_entry));
    e->record->req_cons = e->req_cons;
    e->record->rsp_prod = e->rsp_prod;
    STORE(e->record->key, e->ring.record_key);
    return 0;
}

void record_detach(struct blk_engine *e)
{
    if (!e->record)
        return;
    /* All is answered, or what is not is left to the next one. */
    if (!e->nr_redo)
        STORE(e->record->key, 0);
    munmap(e->record, BLK_RECORD_BYTES);
    e->record = NULL;
}

struct work *record_redo(struct blk_engine *e, void *slot)
{
    struct work *oldest = NULL;
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < e->nr_slots; i++) {
        /* How long ago it was taken, as a distance that cannot wrap. */
        uint32_t at = e->record->entry[i].index - (e->req_cons - e->nr_slots);

        if (e->works[i].is_redo && at <= best) {
            best = at;
            oldest = &e->works[i];
        }
    }
    if (!oldest) {
        e->nr_redo = 0;
        return NULL;
    }
    memcpy(slot, entry_of(e, oldest)->slot, e->slot_bytes);
    oldest->is_redo = false;
    e->nr_redo--;
    return oldest;
}

void record_redo_later(struct blk_engine *e, struct work *work)
{
    work->is_redo = true;
    e->nr_redo++;
}
