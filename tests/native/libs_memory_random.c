/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libxengnttab and libxenforeignmemory with any arguments, and with a guest
 * that writes its grant table at any moment. The seeds are fixed: a failure
 * comes again.
 */
#include "tests/native/granting.h"
#include "tests/native/harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <xenforeignmemory.h>
#include <xengnttab.h>

#include "libs/gnttab/batch.h"

#define NR_REFS 24
#define NR_MAPPED 12 /* at a time */
#define MAX_RUN 4
#define NR_STEPS 20000
#define NR_HOSTILE_STEPS 5000

static uint64_t seed;

static uint32_t below(uint32_t limit)
{
    return (uint32_t)(random64(&seed) % limit);
}

/* --- a model of the table -------------------------------------------------------- */

/* What is mapped: the references, and where; as one, or as a batch. */
struct mapped {
    char *pages, *page[MAX_RUN];
    struct xenner_gnttab_batch *batch;
    uint32_t count, refs[MAX_RUN];
};

static struct mapped mapped[NR_MAPPED];
static unsigned int nr_users[NR_REFS];

static const uint16_t some_flags[] = {0, GTF_permit_access, GTF_permit_access,
                                      GTF_permit_access | GTF_readonly,
                                      GTF_accept_transfer};

/* One that nobody has mapped becomes another one. */
static void change_grant(void)
{
    uint32_t ref = below(NR_REFS);
    uint32_t frames[] = {FRAME(below(16)), FRAME(below(16)), NR_FRAMES,
                         (uint32_t)random64(&seed) | NR_FRAMES};

    if (!nr_users[ref])
        grant(ref, some_flags[below(5)], below(8) == 0, frames[below(4)]);
}

static bool may_map(uint32_t ref, bool is_write)
{
    const grant_entry_v1_t *entry = &entries[ref];
    uint16_t type = entry->flags & GTF_type_mask;

    return type == GTF_permit_access && entry->domid == 0 &&
           entry->frame < NR_FRAMES &&
           !(is_write && entry->flags & GTF_readonly);
}

static bool is_mapped(const struct mapped *slot)
{
    return slot->pages || slot->batch;
}

static void map_them(xengnttab_handle *xgt, struct mapped *slot, int prot)
{
    if (below(2)) {
        slot->batch =
            xenner_gnttab_map_batch(xgt, slot->count, DOMID, slot->refs, prot,
                                    (void **)(void *)slot->page);
        return;
    }
    slot->pages = xengnttab_map_domain_grant_refs(xgt, slot->count, DOMID,
                                                  slot->refs, prot);
    for (uint32_t i = 0; slot->pages && i < slot->count; i++)
        slot->page[i] = slot->pages + i * 4096L;
}

static void map_some(xengnttab_handle *xgt, struct mapped *slot)
{
    bool is_write = below(2), is_right = true;

    slot->count = 1 + below(MAX_RUN);
    for (uint32_t i = 0; i < slot->count; i++) {
        slot->refs[i] = below(NR_REFS);
        is_right = is_right && may_map(slot->refs[i], is_write);
    }
    errno = 0;
    map_them(xgt, slot, is_write ? PROT_READ | PROT_WRITE : PROT_READ);
    CHECK_EQ(is_mapped(slot), is_right);
    if (!is_mapped(slot)) {
        CHECK_EQ(errno, EINVAL);
        return;
    }
    for (uint32_t i = 0; i < slot->count; i++) {
        const grant_entry_v1_t *entry = &entries[slot->refs[i]];

        nr_users[slot->refs[i]]++;
        CHECK(entry->flags & GTF_reading);
        CHECK(!is_write || entry->flags & GTF_writing);
        CHECK_EQ(slot->page[i][9], memory[entry->frame * 4096L + 9]);
    }
}

static void unmap(xengnttab_handle *xgt, struct mapped *slot)
{
    if (slot->pages && below(8) == 0) {
        CHECK_EQ(xengnttab_unmap(xgt, slot->pages, slot->count + 1), -1);
        CHECK_EQ(errno, EINVAL);
    }
    if (slot->pages)
        CHECK_EQ(xengnttab_unmap(xgt, slot->pages, slot->count), 0);
    else
        xenner_gnttab_unmap_batch(xgt, slot->batch);
    for (uint32_t i = 0; i < slot->count; i++) {
        if (!--nr_users[slot->refs[i]])
            CHECK(
                !(entries[slot->refs[i]].flags & (GTF_reading | GTF_writing)));
    }
    slot->pages = NULL;
    slot->batch = NULL;
}

/* Of a grant into memory of our own, with a byte behind it that must stay. */
static void copy_out(xengnttab_handle *xgt)
{
    xengnttab_grant_copy_segment_t seg = {.flags = GNTCOPY_source_gref};
    uint32_t ref = below(NR_REFS), offset = below(4200), length = below(4200);
    char buffer[4201];
    bool is_right = may_map(ref, false) && offset + length <= 4096;

    memset(buffer, '#', sizeof(buffer));
    seg.source.foreign.domid = DOMID;
    seg.source.foreign.ref = ref;
    seg.source.foreign.offset = (uint16_t)offset;
    seg.dest.virt = buffer;
    seg.len = (uint16_t)length;
    CHECK_EQ(xengnttab_grant_copy(xgt, 1, &seg), 0);
    CHECK_EQ(seg.status == GNTST_okay, is_right);
    CHECK_EQ(buffer[length], '#');
    if (is_right && length)
        CHECK(!memcmp(buffer, memory + entries[ref].frame * 4096L + offset,
                      length));
    else
        CHECK_EQ(buffer[0], '#');
}

TEST(any_maps_and_copies)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    unsigned int before;

    seed = 0x9e3779b97f4a7c15;
    make_domain();
    before = nr_fds();
    for (int step = 0; step < NR_STEPS; step++) {
        struct mapped *slot = &mapped[below(NR_MAPPED)];

        switch (below(4)) {
        case 0:
            change_grant();
            break;
        case 1:
            copy_out(xgt);
            break;
        default:
            if (is_mapped(slot))
                unmap(xgt, slot);
            else
                map_some(xgt, slot);
        }
    }
    /* One for the domain, for as long as the handle lives. */
    CHECK(nr_fds() <= before + 1);
    CHECK_EQ(xengnttab_close(xgt), 0);
    for (int ref = 0; ref < NR_REFS; ref++)
        CHECK(!(entries[ref].flags & (GTF_reading | GTF_writing)));
    CHECK(nr_fds() <= before);
    end_domain();
}

/* --- a guest that does not keep still -------------------------------------------- */

static atomic_bool is_over;

static void *scribble(void *unused)
{
    uint64_t random = 0x2545f4914f6cdd1d;

    (void)unused;
    while (!is_over) {
        volatile grant_entry_v1_t *entry =
            &entries[random64(&random) % NR_REFS];

        entry->flags = (uint16_t)(random64(&random) & 0x1f) | GTF_permit_access;
        entry->domid = random64(&random) % 8 == 0;
        entry->frame = random64(&random) % 4 ? FRAME(random64(&random) % 16)
                                             : (uint32_t)random64(&random);
    }
    return NULL;
}

TEST(a_table_that_changes_all_the_time)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    unsigned int before, nr_had = 0;
    uint32_t refs[MAX_RUN];
    pthread_t guest;

    seed = 0xda942042e4dd58b5;
    make_domain();
    before = nr_fds();
    is_over = false;
    CHECK_EQ(pthread_create(&guest, NULL, scribble, NULL), 0);
    for (int step = 0; step < NR_HOSTILE_STEPS; step++) {
        xengnttab_grant_copy_segment_t seg = {.flags = GNTCOPY_dest_gref};
        uint32_t count = 1 + below(MAX_RUN);
        char byte = 'z', *pages;

        for (uint32_t i = 0; i < count; i++)
            refs[i] = below(NR_REFS);
        pages = xengnttab_map_domain_grant_refs(
            xgt, count, DOMID, refs,
            below(2) ? PROT_READ : PROT_READ | PROT_WRITE);
        for (uint32_t i = 0; pages && i < count; i++)
            byte ^= pages[i * 4096L];
        nr_had += pages != NULL;
        CHECK(!pages || !xengnttab_unmap(xgt, pages, count));
        seg.source.virt = &byte;
        seg.dest.foreign.domid = DOMID;
        seg.dest.foreign.ref = below(NR_REFS);
        seg.dest.foreign.offset = (uint16_t)below(4096);
        seg.len = 1;
        CHECK_EQ(xengnttab_grant_copy(xgt, 1, &seg), 0);
        CHECK(seg.status <= GNTST_okay);
    }
    is_over = true;
    pthread_join(guest, NULL);
    CHECK(nr_had > NR_HOSTILE_STEPS / 50);
    CHECK_EQ(xengnttab_close(xgt), 0);
    CHECK(nr_fds() <= before);
    end_domain();
}

/* --- pages of any number ---------------------------------------------------------- */

TEST(any_foreign_pages)
{
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    unsigned int before;

    seed = 0x9e3779b97f4a7c15;
    make_domain();
    before = nr_fds();
    for (int step = 0; step < NR_HOSTILE_STEPS; step++) {
        uint32_t count = 1 + below(16);
        xen_pfn_t frames[16];
        int errors[16];
        char *pages;

        for (uint32_t i = 0; i < count; i++)
            frames[i] = below(3) ? FRAME(below(16))
                                 : NR_FRAMES + random64(&seed) % (~0UL >> 20);
        pages =
            xenforeignmemory_map(fmem, DOMID, PROT_READ, count, frames, errors);
        for (uint32_t i = 0; i < count; i++) {
            bool is_there = frames[i] < NR_FRAMES;

            CHECK_EQ(errors[i], is_there ? 0 : -EINVAL);
            if (pages && is_there)
                CHECK_EQ(pages[i * 4096L + 7],
                         memory[(long)frames[i] * 4096L + 7]);
        }
        if (pages)
            CHECK_EQ(xenforeignmemory_unmap(fmem, pages, count), 0);
    }
    CHECK_EQ(xenforeignmemory_close(fmem), 0);
    CHECK(nr_fds() <= before);
    end_domain();
}
