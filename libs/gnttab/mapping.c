/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a handle has in use: grants that are begun, frames that are pinned. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "batch.h"
#include "handle.h"

/* Its pages are nobody's any more. */
static void let_go(struct mapping *mapping)
{
    if (mapping->clear_offset != ~0U)
        mapping->address[mapping->clear_offset] = 0;
    if (mapping->is_own)
        munmap(mapping->address, (size_t)mapping->nr_pages * VMCORE_PAGE_BYTES);
    for (uint32_t i = 0; i < mapping->nr_pinned; i++)
        frame_unpin(mapping->page[i].grantor, mapping->page[i].pin);
}

/* With grants_lock(). */
static void end_grants(const struct mapping *mapping)
{
    for (uint32_t i = 0; i < mapping->nr_begun; i++)
        grant_end(mapping->page[i].grantor, mapping->page[i].ref,
                  mapping->writable);
}

/*
 * How many pages they have room for: a single one's, a packet's or small
 * request's, and what a batch may have. Others are not kept.
 */
static const uint32_t sizes[NR_SIZES] = {1, 32, XENNER_GNTTAB_MAX_BATCH};

/* The size for so many; NR_SIZES: there is none. */
static int size_for(uint32_t nr_pages)
{
    int size = 0;

    while (size < NR_SIZES && sizes[size] < nr_pages)
        size++;
    return size;
}

static void forget(xengnttab_handle *xgt, struct mapping *mapping)
{
    int size = size_for(mapping->nr_pages);

    for (uint32_t i = 0; i < mapping->nr_begun; i++)
        grantor_put(&xgt->grantors, mapping->page[i].grantor);
    if (size == NR_SIZES) {
        free(mapping);
        return;
    }
    mapping->next = xgt->free[size];
    xgt->free[size] = mapping;
}

void mapping_end(xengnttab_handle *xgt, struct mapping *mapping)
{
    let_go(mapping);
    grants_lock();
    end_grants(mapping);
    grants_unlock();
    forget(xgt, mapping);
}

struct mapping *mapping_new(xengnttab_handle *xgt, uint32_t nr_pages)
{
    int size = size_for(nr_pages);
    uint32_t room = size < NR_SIZES ? sizes[size] : nr_pages;
    struct mapping *mapping = size < NR_SIZES ? xgt->free[size] : NULL;

    if (mapping)
        xgt->free[size] = mapping->next;
    else
        mapping = malloc(sizeof(*mapping) + room * sizeof(struct page));
    if (mapping)
        *mapping = (struct mapping){.nr_pages = nr_pages, .clear_offset = ~0U};
    return mapping;
}

/* The next page's domain, whose last page's is `last`; NULL and errno. */
static struct grantor *next_grantor(xengnttab_handle *xgt, struct grantor *last,
                                    uint32_t domid)
{
    if (!last || last->core.domid != domid)
        return grantor_get(&xgt->grantors, domid);
    last->users++;
    return last;
}

/* Begin to use a mapping's next grant, with grants_lock(); 0 or -1. */
static int begin_page(struct mapping *mapping, struct grantor *grantor,
                      uint32_t ref)
{
    struct page *page = &mapping->page[mapping->nr_begun];

    *page = (struct page){.grantor = grantor, .ref = ref};
    if (grant_begin(grantor, ref, mapping->writable, &page->frame) !=
        GNTST_okay) {
        errno = EINVAL; /* what Linux's gntdev makes of each status */
        return -1;
    }
    mapping->nr_begun++;
    return 0;
}

int mapping_begin(xengnttab_handle *xgt, struct mapping *mapping,
                  const uint32_t *domids, bool is_one_domain,
                  const uint32_t *refs)
{
    struct grantor *grantor = NULL;
    int rc = 0, saved;

    grants_lock();
    for (uint32_t i = 0; i < mapping->nr_pages && !rc; i++) {
        grantor = next_grantor(xgt, grantor, domids[is_one_domain ? 0 : i]);
        rc = grantor ? begin_page(mapping, grantor, refs[i]) : -1;
    }
    grants_unlock();
    if (rc && grantor) {
        saved = errno;
        grantor_put(&xgt->grantors, grantor);
        errno = saved;
    }
    return rc;
}

int mapping_pin(struct mapping *mapping)
{
    for (; mapping->nr_pinned < mapping->nr_pages; mapping->nr_pinned++) {
        struct page *page = &mapping->page[mapping->nr_pinned];

        page->pin = frame_pin(page->grantor, page->frame, &page->is_there);
        if (!page->pin)
            return -1;
    }
    return 0;
}

int mapping_place_apart(struct mapping *mapping, int prot)
{
    struct page *page = mapping->page;
    int rc = 0;

    mapping->address = vmcore_reserve(NULL, mapping->nr_pages, 0);
    if (!mapping->address)
        return -1;
    mapping->is_own = true;
    for (uint32_t i = 0; i < mapping->nr_pages && !rc; i++) {
        char *address = mapping->address + (size_t)i * VMCORE_PAGE_BYTES;

        rc = page[i].is_there ? vmcore_map(&page[i].grantor->core, address,
                                           prot, &page[i].frame, 1)
                              : vmcore_map_zeros(address, prot, 1);
    }
    return rc;
}
