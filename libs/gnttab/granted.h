/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages that a guest has granted, for an engine that runs on our libxengnttab
 * and on Xen's: each at its own place, none of them in a mapping of its own
 * where the library is ours.
 */
#ifndef LIBS_GNTTAB_GRANTED_H
#define LIBS_GNTTAB_GRANTED_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xengnttab.h>

#include "batch.h"

#define GRANTED_PAGE_BYTES 4096
/* How long to wait until the host may have more of what it was short of. */
#define GRANTED_RETRY_NS 10000000

struct granted {
    struct xenner_gnttab_batch *batch; /* of our library, */
    void *pages;                       /* or of Xen's; both NULL: none */
    uint32_t nr_pages;
};

/*
 * Is it no fault of the guest's, but something that the host has not now: memory,
 * locks, descriptors? Then the same may be asked again later.
 */
static inline bool is_shortage(int error)
{
    switch (error) {
    case EAGAIN:
    case EINTR:
    case ENOMEM:
    case ENOSPC:
    case ENOLCK:
    case EMFILE:
    case ENFILE:
        return true;
    default:
        return false;
    }
}

/*
 * All or none; 0, -EAGAIN (is_shortage()), or -EINVAL: the grants are bad, or
 * do not let us do what prot says. address[i] is page i's.
 */
static inline int granted_map(xengnttab_handle *xgt, uint32_t domid,
                              uint32_t *refs, uint32_t nr_pages, int prot,
                              struct granted *granted, void **address)
{
    *granted = (struct granted){.nr_pages = nr_pages};
    if (xenner_gnttab_map_batch) {
        granted->batch =
            xenner_gnttab_map_batch(xgt, nr_pages, domid, refs, prot, address);
        if (granted->batch)
            return 0;
    } else {
        granted->pages =
            xengnttab_map_domain_grant_refs(xgt, nr_pages, domid, refs, prot);
        for (uint32_t i = 0; granted->pages && i < nr_pages; i++)
            address[i] = (char *)granted->pages + i * GRANTED_PAGE_BYTES;
        if (granted->pages)
            return 0;
    }
    return is_shortage(errno) ? -EAGAIN : -EINVAL;
}

static inline bool granted_is_mapped(const struct granted *granted)
{
    return granted->batch || granted->pages;
}

/* None of them is fine. */
static inline void granted_unmap(xengnttab_handle *xgt, struct granted *granted)
{
    if (granted->batch)
        xenner_gnttab_unmap_batch(xgt, granted->batch);
    if (granted->pages)
        xengnttab_unmap(xgt, granted->pages, granted->nr_pages);
    granted->batch = NULL;
    granted->pages = NULL;
}

#endif
