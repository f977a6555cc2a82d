/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libxengnttab: map what domains have granted to the host. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
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
            mapping_end(xgt, mapping);
        }
    }
    while (xgt->batches)
        batch_end(xgt, xgt->batches);
    for (int i = 0; i < NR_SIZES; i++)
        free_all(xgt->free[i]);
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
    if (mapping_place_apart(mapping, prot))
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
    mapping = mapping_new(xgt, nr_pages);
    if (!mapping)
        goto out;
    mapping->writable = prot & PROT_WRITE;
    if (mapping_begin(xgt, mapping, domids, is_one_domain, refs) ||
        mapping_pin(mapping) || place(xgt, mapping, prot)) {
        saved = errno;
        mapping_end(xgt, mapping);
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
        mapping_end(xgt, mapping);
    else
        errno = EINVAL;
    pthread_mutex_unlock(&xgt->lock);
    return mapping ? 0 : -1;
}
