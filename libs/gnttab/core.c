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
#include "each.h"
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
    granters_drop_unused(&xgt->granters);
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
    for (uint32_t i = 0; i < mapping->nr_held; i++)
        frame_release(mapping->page[i].granter, mapping->page[i].hold);
}

/* With grants_lock(). */
static void end_grants(const struct mapping *mapping)
{
    for (uint32_t i = 0; i < mapping->nr_begun; i++)
        grant_end(mapping->page[i].granter, mapping->page[i].use,
                  mapping->writable);
}

static void forget(xengnttab_handle *xgt, struct mapping *mapping)
{
    for (uint32_t i = 0; i < mapping->nr_begun; i++)
        granter_put(&xgt->granters, mapping->page[i].granter);
    if (mapping->nr_pages != 1) {
        free(mapping);
        return;
    }
    mapping->next = xgt->spare;
    xgt->spare = mapping;
}

static void unmap(xengnttab_handle *xgt, struct mapping *mapping)
{
    let_go(mapping);
    grants_lock();
    end_grants(mapping);
    grants_unlock();
    forget(xgt, mapping);
}

/* Without an address yet; NULL and errno. */
static struct mapping *new_mapping(xengnttab_handle *xgt, uint32_t nr_pages)
{
    struct mapping *mapping = nr_pages == 1 ? xgt->spare : NULL;

    if (mapping)
        xgt->spare = mapping->next;
    else
        mapping = malloc(sizeof(*mapping) + nr_pages * sizeof(struct page));
    if (mapping)
        *mapping = (struct mapping){.nr_pages = nr_pages, .clear_offset = ~0U};
    return mapping;
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
    while ((mapping = xgt->spare)) {
        xgt->spare = mapping->next;
        free(mapping);
    }
    while (xgt->granters) {
        struct granter *granter = xgt->granters;

        xgt->granters = granter->next;
        granter_free(granter);
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
static struct granter *next_granter(xengnttab_handle *xgt, struct granter *last,
                                    uint32_t domid)
{
    if (!last || last->core.domid != domid)
        return granter_get(&xgt->granters, domid);
    last->users++;
    return last;
}

/* Begin to use a mapping's next grant, with grants_lock(); 0 or -1. */
static int begin_page(struct mapping *mapping, struct granter *granter,
                      uint32_t ref)
{
    struct page *page = &mapping->page[mapping->nr_begun];

    *page = (struct page){.granter = granter};
    if (grant_begin(granter, ref, mapping->writable, &page->use,
                    &page->frame) != GNTST_okay) {
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
    struct granter *granter = NULL;
    int rc = 0, saved;

    grants_lock();
    for (uint32_t i = 0; i < mapping->nr_pages && !rc; i++) {
        granter = next_granter(xgt, granter, domids[is_one_domain ? 0 : i]);
        rc = granter ? begin_page(mapping, granter, refs[i]) : -1;
    }
    grants_unlock();
    if (rc && granter) {
        saved = errno;
        granter_put(&xgt->granters, granter);
        errno = saved;
    }
    return rc;
}

/* Its frames stay with their guests; 0, or -1 and errno. */
static int hold_all(struct mapping *mapping)
{
    for (; mapping->nr_held < mapping->nr_pages; mapping->nr_held++) {
        struct page *page = &mapping->page[mapping->nr_held];

        page->hold = frame_hold(page->granter, page->frame, &page->is_there);
        if (!page->hold)
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
            mapping->page[i].granter != first->granter ||
            mapping->page[i].frame != first->frame + i)
            return false;
    }
    return true;
}

/*
 * Give a mapping its address, and link it; 0 or -1. A run of pages has one already, in the
 * view of all the domain's memory: that is an addition where the other way is
 * several system calls. But an address says which grants xengnttab_unmap() is
 * to end: of two that lead to one frame, the second has an address of its own.
 */
static int place(xengnttab_handle *xgt, struct mapping *mapping, int prot)
{
    struct page *page = mapping->page;
    struct mapping **link;
    char *address;
    int rc;

    if (is_one_run(mapping)) {
        address = granter_view(page->granter, prot, page->frame);
        link = address ? mapping_at(xgt, address) : NULL;
        if (link && !*link) {
            mapping->address = address;
            *link = mapping;
            return 0;
        }
    }
    mapping->address = vmcore_reserve(NULL, mapping->nr_pages, 0);
    if (!mapping->address)
        return -1;
    mapping->is_own = true;
    for (uint32_t i = 0; i < mapping->nr_pages; i++) {
        address = mapping->address + (size_t)i * VMCORE_PAGE_BYTES;
        rc = page[i].is_there ? vmcore_map(&page[i].granter->core, address,
                                           prot, &page[i].frame, 1)
                              : vmcore_map_zeros(address, prot, 1);
        if (rc)
            return -1;
    }
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

    if (!nr_pages || nr_pages > GRANT_FRAMES_BYTES ||
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
        hold_all(mapping) || place(xgt, mapping, prot)) {
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

/* --- several pages at once, each a mapping of its own ----------------------- */

static void unmap_all(xengnttab_handle *xgt, uint32_t count,
                      struct mapping *const *each)
{
    for (uint32_t i = 0; i < count; i++)
        let_go(each[i]);
    grants_lock();
    for (uint32_t i = 0; i < count; i++)
        end_grants(each[i]);
    grants_unlock();
    for (uint32_t i = 0; i < count; i++)
        forget(xgt, each[i]);
}

/* How many mappings there are; of the last one the grant is in use or not. */
static uint32_t begin_each(xengnttab_handle *xgt, uint32_t count,
                           uint32_t domid, const uint32_t *refs, int prot,
                           struct mapping **each)
{
    struct granter *granter = granter_get(&xgt->granters, domid);
    uint32_t nr = 0;
    int saved;

    if (!granter)
        return 0;
    grants_lock();
    while (nr < count && (each[nr] = new_mapping(xgt, 1))) {
        each[nr]->writable = prot & PROT_WRITE;
        nr++;
        if (begin_page(each[nr - 1], granter, refs[nr - 1]))
            break;
        granter->users++;
    }
    grants_unlock();
    saved = errno;
    granter_put(&xgt->granters, granter);
    errno = saved;
    return nr;
}

/* Give them their addresses; how many have one. */
static uint32_t place_each(xengnttab_handle *xgt, uint32_t count, int prot,
                           struct mapping *const *each, void **addresses)
{
    uint32_t i;

    for (i = 0; i < count && each[i]->nr_begun; i++) {
        if (hold_all(each[i]) || place(xgt, each[i], prot))
            break;
        addresses[i] = each[i]->address;
    }
    return i;
}

int xenner_gnttab_map_each(xengnttab_handle *xgt, uint32_t count,
                           uint32_t domid, const uint32_t *refs, int prot,
                           void **addresses)
{
    struct mapping *each[XENNER_GNTTAB_MAX_EACH] = {NULL};
    uint32_t nr = 0, nr_placed = 0;
    int saved;

    if (count > XENNER_GNTTAB_MAX_EACH) {
        errno = EINVAL;
        return -1;
    }
    pthread_mutex_lock(&xgt->lock);
    if (xgt->is_restricted)
        errno = ENOTTY;
    else
        nr = begin_each(xgt, count, domid, refs, prot, each);
    if (nr == count)
        nr_placed = place_each(xgt, nr, prot, each, addresses);
    if (nr_placed != count) {
        saved = errno;
        for (uint32_t i = 0; i < nr_placed; i++)
            take_mapping(xgt, addresses[i], 1);
        unmap_all(xgt, nr, each);
        errno = saved;
    }
    pthread_mutex_unlock(&xgt->lock);
    return nr_placed == count ? 0 : -1;
}

int xenner_gnttab_unmap_each(xengnttab_handle *xgt, uint32_t count,
                             void *const *addresses)
{
    struct mapping *each[XENNER_GNTTAB_MAX_EACH] = {NULL};
    uint32_t nr = 0;

    if (count > XENNER_GNTTAB_MAX_EACH) {
        errno = EINVAL;
        return -1;
    }
    pthread_mutex_lock(&xgt->lock);
    for (uint32_t i = 0; i < count; i++) {
        each[nr] = take_mapping(xgt, addresses[i], 1);
        nr += each[nr] != NULL;
    }
    unmap_all(xgt, nr, each);
    pthread_mutex_unlock(&xgt->lock);
    if (nr != count)
        errno = EINVAL;
    return nr == count ? 0 : -1;
}
