/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libxengnttab: map what domains have granted to the host. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xengnttab.h>

#include "abi/layout.h"
#include "batch.h"
#include "grants.h"
#include "handle.h"
#include "mapper.h"

/* Where a mapping at an address is linked, or would be at the end. */
static struct mapping **mapping_at(xengnttab_handle *xgt, const char *address)
{
    struct mapping **link =
        &xgt->mappings[(uintptr_t)address / VMCORE_PAGE_BYTES % NR_BUCKETS];

    while (*link && (*link)->address != address)
        link = &(*link)->next;
    return link;
}

/* As Xen's: grants of any domain are the same handle's, so none is left. */
static int restrict_handle(struct active_handle *active, uint32_t domid)
{
    xengnttab_handle *xgt = (xengnttab_handle *)(void *)active;

    (void)domid;
    pthread_mutex_lock(&xgt->lock);
    xgt->is_restricted = true;
    grantors_drop_unused(&xgt->grantors);
    pthread_mutex_unlock(&xgt->lock);
    return 0;
}

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger,
                                 unsigned int open_flags)
{
    xengnttab_handle *xgt;

    (void)logger, (void)open_flags; /* Xen's takes any flags too */
    xgt = calloc(1, sizeof(*xgt));
    if (!xgt)
        return NULL;
    xgt->fd = eventfd(0, EFD_CLOEXEC);
    if (xgt->fd < 0) {
        free(xgt);
        return NULL;
    }
    pthread_mutex_init(&xgt->lock, NULL);
    mapper_open();
    active_handle_add(&xgt->active, restrict_handle);
    return xgt;
}

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

/* Where those of its size wait to be used again; NULL: they do not. */
static struct mapping **free_list_of(xengnttab_handle *xgt,
                                     const struct mapping *mapping)
{
    if (mapping->link)
        return &xgt->free_batches;
    return mapping->nr_pages == 1 ? &xgt->free_singles : NULL;
}

static void forget(xengnttab_handle *xgt, struct mapping *mapping)
{
    struct mapping **list = free_list_of(xgt, mapping);

    for (uint32_t i = 0; i < mapping->nr_begun; i++)
        grantor_put(&xgt->grantors, mapping->page[i].grantor);
    if (!list) {
        free(mapping);
        return;
    }
    mapping->next = *list;
    *list = mapping;
}

static void unmap(xengnttab_handle *xgt, struct mapping *mapping)
{
    let_go(mapping);
    grants_lock();
    end_grants(mapping);
    grants_unlock();
    forget(xgt, mapping);
}

/* A free one, or a new one with room for so many pages; NULL and errno. */
static struct mapping *take(struct mapping **list, uint32_t nr_pages)
{
    struct mapping *mapping = list ? *list : NULL;

    if (mapping)
        *list = mapping->next;
    else
        mapping = malloc(sizeof(*mapping) + nr_pages * sizeof(struct page));
    return mapping;
}

/* Without an address yet; NULL and errno. */
static struct mapping *new_mapping(xengnttab_handle *xgt, uint32_t nr_pages)
{
    struct mapping *mapping =
        take(nr_pages == 1 ? &xgt->free_singles : NULL, nr_pages);

    if (mapping)
        *mapping = (struct mapping){.nr_pages = nr_pages, .clear_offset = ~0U};
    return mapping;
}

static void end_batch(xengnttab_handle *xgt, struct mapping *batch)
{
    *batch->link = batch->next;
    if (batch->next)
        batch->next->link = batch->link;
    unmap(xgt, batch);
}

static void free_all(struct mapping *mapping)
{
    struct mapping *next;

    for (; mapping; mapping = next) {
        next = mapping->next;
        free(mapping);
    }
}

int xengnttab_close(xengnttab_handle *xgt)
{
    struct mapping *mapping;

    if (!xgt)
        return 0;
    active_handle_remove(&xgt->active);
    for (int i = 0; i < NR_BUCKETS; i++) {
        while ((mapping = xgt->mappings[i])) {
            xgt->mappings[i] = mapping->next;
            unmap(xgt, mapping);
        }
    }
    while (xgt->batches)
        end_batch(xgt, xgt->batches);
    free_all(xgt->free_singles);
    free_all(xgt->free_batches);
    while (xgt->grantors) {
        struct grantor *grantor = xgt->grantors;

        xgt->grantors = grantor->next;
        grantor_free(grantor);
    }
    mapper_close();
    close(xgt->fd);
    pthread_mutex_destroy(&xgt->lock);
    free(xgt);
    return 0;
}

int xengnttab_fd(xengnttab_handle *xgt)
{
    return xgt->fd;
}

/* There is no limit to set: mappings cost address space only. */
int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t nr_grants)
{
    (void)xgt, (void)nr_grants;
    return 0;
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

static int begin_all(xengnttab_handle *xgt, struct mapping *mapping,
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

/* Its frames stay with their guests; 0, or -1 and errno. */
static int pin_all(struct mapping *mapping)
{
    for (; mapping->nr_pinned < mapping->nr_pages; mapping->nr_pinned++) {
        struct page *page = &mapping->page[mapping->nr_pinned];

        page->pin = frame_pin(page->grantor, page->frame, &page->is_there);
        if (!page->pin)
            return -1;
    }
    return 0;
}

/* Are the pages neighbours in one domain's memory, and all there? */
static bool is_one_run(const struct mapping *mapping)
{
    const struct page *first = &mapping->page[0];

    for (uint32_t i = 0; i < mapping->nr_pages; i++) {
        if (!mapping->page[i].is_there ||
            mapping->page[i].grantor != first->grantor ||
            mapping->page[i].frame != first->frame + i)
            return false;
    }
    return true;
}

/* Give a mapping an address that no other has; 0, or -1 and errno. */
static int place_apart(struct mapping *mapping, int prot)
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

/*
 * Give a mapping its address, and link it; 0 or -1. A run of pages has one
 * already, in the view of all the domain's memory: that is an addition where
 * the other way is several system calls. But an address says which grants
 * xengnttab_unmap() is to end: of two that lead to one frame, the second has an
 * address of its own.
 */
static int place(xengnttab_handle *xgt, struct mapping *mapping, int prot)
{
    struct page *page = mapping->page;
    struct mapping **link;
    char *address;

    if (is_one_run(mapping)) {
        address = grantor_view(page->grantor, prot, page->frame);
        link = address ? mapping_at(xgt, address) : NULL;
        if (link && !*link) {
            mapping->address = address;
            *link = mapping;
            return 0;
        }
    }
    if (place_apart(mapping, prot))
        return -1;
    *mapping_at(xgt, mapping->address) = mapping;
    return 0;
}

/* All pages or none. domids has one for each page, or one for all. */
static void *map(xengnttab_handle *xgt, uint32_t nr_pages,
                 const uint32_t *domids, bool is_one_domain,
                 const uint32_t *refs, int prot, uint32_t clear_offset)
{
    struct mapping *mapping;
    void *address = NULL;
    int saved;

    if (!nr_pages || nr_pages > NR_GRANTS ||
        (clear_offset != ~0U &&
         clear_offset >= (uint64_t)nr_pages * VMCORE_PAGE_BYTES)) {
        errno = EINVAL;
        return NULL;
    }
    pthread_mutex_lock(&xgt->lock);
    if (xgt->is_restricted) {
        errno = ENOTTY;
        goto out;
    }
    mapping = new_mapping(xgt, nr_pages);
    if (!mapping)
        goto out;
    mapping->writable = prot & PROT_WRITE;
    if (begin_all(xgt, mapping, domids, is_one_domain, refs) ||
        pin_all(mapping) || place(xgt, mapping, prot)) {
        saved = errno;
        unmap(xgt, mapping);
        errno = saved;
        goto out;
    }
    if (mapping->writable)
        mapping->clear_offset = clear_offset;
    address = mapping->address;
out:
    pthread_mutex_unlock(&xgt->lock);
    return address;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid,
                              uint32_t ref, int prot)
{
    return map(xgt, 1, &domid, true, &ref, prot, ~0U);
}

void *xengnttab_map_grant_refs(xengnttab_handle *xgt, uint32_t count,
                               uint32_t *domids, uint32_t *refs, int prot)
{
    return map(xgt, count, domids, false, refs, prot, ~0U);
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *xgt, uint32_t count,
                                      uint32_t domid, uint32_t *refs, int prot)
{
    return map(xgt, count, &domid, true, refs, prot, ~0U);
}

/* To send an event at the end takes a kernel that outlives the caller. */
void *xengnttab_map_grant_ref_notify(xengnttab_handle *xgt, uint32_t domid,
                                     uint32_t ref, int prot,
                                     uint32_t notify_offset,
                                     evtchn_port_t notify_port)
{
    if (notify_port != ~(evtchn_port_t)0) {
        errno = EOPNOTSUPP;
        return NULL;
    }
    return map(xgt, 1, &domid, true, &ref, prot, notify_offset);
}

/* That of an address, not linked any more; NULL: there is none so large. */
static struct mapping *take_mapping(xengnttab_handle *xgt, void *address,
                                    uint32_t nr_pages)
{
    struct mapping **link = mapping_at(xgt, address), *mapping = *link;

    if (!mapping || mapping->nr_pages != nr_pages)
        return NULL;
    *link = mapping->next;
    return mapping;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start_address, uint32_t count)
{
    struct mapping *mapping;

    pthread_mutex_lock(&xgt->lock);
    mapping = take_mapping(xgt, start_address, count);
    if (mapping)
        unmap(xgt, mapping);
    else
        errno = EINVAL;
    pthread_mutex_unlock(&xgt->lock);
    return mapping ? 0 : -1;
}

/* --- several pages at once -------------------------------------------------- */

/* Each page's address: in the view, or else in memory of the batch's own. */
static int place_batch(struct mapping *batch, int prot, void **addresses)
{
    for (uint32_t i = 0; i < batch->nr_pages; i++) {
        struct page *page = &batch->page[i];

        addresses[i] = page->is_there
                           ? grantor_view(page->grantor, prot, page->frame)
                           : NULL;
        if (!addresses[i])
            break;
        if (i + 1 == batch->nr_pages)
            return 0;
    }
    if (place_apart(batch, prot))
        return -1;
    for (uint32_t i = 0; i < batch->nr_pages; i++)
        addresses[i] = batch->address + (size_t)i * VMCORE_PAGE_BYTES;
    return 0;
}

/* In the handle's list, with nothing in use yet; NULL and errno. */
static struct mapping *new_batch(xengnttab_handle *xgt, uint32_t nr_pages)
{
    struct mapping *batch = take(&xgt->free_batches, XENNER_GNTTAB_MAX_BATCH);

    if (!batch)
        return NULL;
    *batch = (struct mapping){.next = xgt->batches,
                              .link = &xgt->batches,
                              .nr_pages = nr_pages,
                              .clear_offset = ~0U};
    if (batch->next)
        batch->next->link = &batch->next;
    xgt->batches = batch;
    return batch;
}

struct xenner_gnttab_batch *
xenner_gnttab_map_batch(xengnttab_handle *xgt, uint32_t count, uint32_t domid,
                        const uint32_t *refs, int prot, void **addresses)
{
    struct mapping *batch = NULL;
    int saved;

    if (!count || count > XENNER_GNTTAB_MAX_BATCH) {
        errno = EINVAL;
        return NULL;
    }
    pthread_mutex_lock(&xgt->lock);
    if (xgt->is_restricted)
        errno = ENOTTY;
    else
        batch = new_batch(xgt, count);
    if (batch) {
        batch->writable = prot & PROT_WRITE;
        if (begin_all(xgt, batch, &domid, true, refs) || pin_all(batch) ||
            place_batch(batch, prot, addresses)) {
            saved = errno;
            end_batch(xgt, batch);
            errno = saved;
            batch = NULL;
        }
    }
    pthread_mutex_unlock(&xgt->lock);
    return (struct xenner_gnttab_batch *)(void *)batch;
}

void xenner_gnttab_unmap_batch(xengnttab_handle *xgt,
                               struct xenner_gnttab_batch *batch)
{
    pthread_mutex_lock(&xgt->lock);
    end_batch(xgt, (struct mapping *)(void *)batch);
    pthread_mutex_unlock(&xgt->lock);
}
