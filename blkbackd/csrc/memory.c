/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a request reads and writes: granted pages, or a bounce buffer. */
#include <string.h>
#include <sys/mman.h>

#include "state.h"

#define NR_BOUNCES 4
#define MAX_BOUNCES 32 /* bits of free_bounces */
#define BOUNCE_BYTES ((size_t)BLK_MAX_SEGMENTS * BLK_PAGE_BYTES)

/*
 * With Xen's own libxengnttab a page that is read or written directly is not
 * given back at once: Linux says that the disk has ended before it lets go of
 * the page, and until then defers the end of the mapping (gntdev.c,
 * gnttab_unmap_refs_async()). A frontend that finds the grant of an answered
 * request in use gives the disk up. There the disk gets buffers of ours.
 */
static bool must_bounce(void)
{
    return !xenner_gnttab_map_batch;
}

static uint32_t nr_bounces(void)
{
    return must_bounce() ? MAX_BOUNCES : NR_BOUNCES;
}

bool memory_attach(struct blk_engine *e)
{
    /* Memory that is there when it is first written. */
    e->bounces = mmap(NULL, nr_bounces() * BOUNCE_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (e->bounces == MAP_FAILED)
        return false;
    e->free_bounces = ~0U >> (MAX_BOUNCES - nr_bounces());
    return true;
}

void memory_detach(struct blk_engine *e)
{
    munmap(e->bounces, nr_bounces() * BOUNCE_BYTES);
}

int memory_fetch_segments(struct blk_engine *e, struct blk_request *request)
{
    uint32_t nr_pages = blk_indirect_pages(request);
    char *to = (char *)request->segment;
    size_t left = request->nr_segments * sizeof(request->segment[0]);
    void *page[BLK_MAX_INDIRECT_PAGES];
    struct granted granted;
    int rc = granted_map(e->xgt, e->ring.domid, request->indirect_gref,
                         nr_pages, PROT_READ, &granted, page);

    if (rc)
        return rc;
    for (uint32_t i = 0; i < nr_pages; i++) {
        size_t bytes = left < BLK_PAGE_BYTES ? left : BLK_PAGE_BYTES;

        memcpy(to, page[i], bytes);
        to += bytes;
        left -= bytes;
    }
    granted_unmap(e->xgt, &granted);
    return 0;
}

/* Neighbours are one vector: a page's end and the next one's beginning. */
static void add_vector(struct work *work, char *base, size_t bytes)
{
    if (work->nr_iov) {
        struct iovec *last = &work->iov[work->nr_iov - 1];

        if ((char *)last->iov_base + last->iov_len == base) {
            last->iov_len += bytes;
            return;
        }
    }
    work->iov[work->nr_iov++] = (struct iovec){base, bytes};
}

int memory_map(struct blk_engine *e, struct work *work)
{
    const struct blk_request *request = &work->request;
    bool is_read = request->op == BLKIF_OP_READ;
    uint32_t refs[BLK_MAX_SEGMENTS];
    void *page[BLK_MAX_SEGMENTS];
    int rc;

    for (uint32_t i = 0; i < request->nr_segments; i++)
        refs[i] = request->segment[i].gref;
    rc = granted_map(e->xgt, e->ring.domid, refs, request->nr_segments,
                     is_read ? PROT_READ | PROT_WRITE : PROT_READ,
                     &work->granted, page);
    if (rc)
        return rc;
    work->nr_iov = 0;
    for (uint32_t i = 0; i < request->nr_segments; i++) {
        const struct blk_segment *segment = &request->segment[i];
        uint32_t nr_sectors = segment->last_sect - segment->first_sect + 1U;

        add_vector(work,
                   (char *)page[i] + segment->first_sect * BLK_SECTOR_BYTES,
                   (size_t)nr_sectors * BLK_SECTOR_BYTES);
    }
    return 0;
}

bool memory_needs_bounce(const struct blk_engine *e, const struct work *work)
{
    if (must_bounce())
        return true;
    for (uint32_t i = 0; i < work->nr_iov; i++) {
        const struct iovec *vector = &work->iov[i];

        if ((uintptr_t)vector->iov_base & (e->volume.memory_align - 1) ||
            vector->iov_len & (e->volume.block_bytes - 1))
            return true;
    }
    return false;
}

void memory_copy_bounce(struct work *work, bool is_from_bounce)
{
    char *at = work->bounce;

    for (uint32_t i = 0; i < work->nr_iov; i++) {
        const struct iovec *vector = &work->iov[i];

        if (is_from_bounce)
            memcpy(vector->iov_base, at, vector->iov_len);
        else
            memcpy(at, vector->iov_base, vector->iov_len);
        at += vector->iov_len;
    }
}

void memory_take_bounce(struct blk_engine *e, struct work *work)
{
    uint32_t number = (uint32_t)__builtin_ctz(e->free_bounces);

    e->free_bounces &= ~(1U << number);
    work->bounce = e->bounces + number * BOUNCE_BYTES;
    if (work->request.op != BLKIF_OP_READ)
        memory_copy_bounce(work, false);
    COUNT(e, bounced, 1);
}

void memory_let_go(struct blk_engine *e, struct work *work)
{
    if (work->bounce)
        e->free_bounces |=
            1U << ((size_t)(work->bounce - e->bounces) / BOUNCE_BYTES);
    work->bounce = NULL;
    granted_unmap(e->xgt, &work->granted);
}
