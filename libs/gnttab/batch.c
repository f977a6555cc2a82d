/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Several pages at once: batch.h. */
#include "batch.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "handle.h"

/* In the handle's list, with nothing in use yet; NULL and errno. */
static struct mapping *new_batch(xengnttab_handle *xgt, uint32_t nr_pages)
{
    struct mapping *batch = mapping_new(xgt, nr_pages);

    if (!batch)
        return NULL;
    batch->next = xgt->batches;
    batch->link = &xgt->batches;
    if (batch->next)
        batch->next->link = &batch->next;
    xgt->batches = batch;
    return batch;
}

/*
 * Each page's address, which is in the view. A mapping of the batch's own is none
 * of the ways: a guest would say how many there are.
 */
static int find_pages(const struct mapping *batch, int prot, void **addresses)
{
    for (uint32_t i = 0; i < batch->nr_pages; i++) {
        const struct page *page = &batch->page[i];

        if (!page->is_there) {
            errno = ENOMEM;
            return -1;
        }
        addresses[i] = grantor_view(page->grantor, prot, page->frame);
        if (!addresses[i])
            return -1;
    }
    return 0;
}

void batch_end(xengnttab_handle *xgt, struct mapping *batch)
{
    *batch->link = batch->next;
    if (batch->next)
        batch->next->link = batch->link;
    mapping_end(xgt, batch);
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
        if (mapping_begin(xgt, batch, &domid, true, refs) ||
            mapping_pin(batch) || find_pages(batch, prot, addresses)) {
            saved = errno;
            batch_end(xgt, batch);
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
    batch_end(xgt, (struct mapping *)(void *)batch);
    pthread_mutex_unlock(&xgt->lock);
}
