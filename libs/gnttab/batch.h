/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What Xen's libxengnttab has not: a caller looks whether it is there. The pages
 * of a packet or request are mapped and unmapped at one go, each where it is in
 * the one mapping of all the guest's memory.
 */
#ifndef LIBS_GNTTAB_BATCH_H
#define LIBS_GNTTAB_BATCH_H

#include <xengnttab.h>

#define XENNER_GNTTAB_MAX_BATCH 256

struct xenner_gnttab_batch;

/*
 * All or none: NULL and errno, as of xengnttab_map_domain_grant_refs(); EINVAL
 * if there are more than MAX_BATCH, or none, or if prot is neither PROT_READ nor
 * that and PROT_WRITE; ENOMEM if a page is one that the guest has given back and
 * the host has no memory for it. addresses[i] is page i's; pages of two batches
 * may have one.
 */
struct xenner_gnttab_batch *
xenner_gnttab_map_batch(xengnttab_handle *xgt, uint32_t count, uint32_t domid,
                        const uint32_t *refs, int prot, void **addresses)
    __attribute__((weak));
void xenner_gnttab_unmap_batch(xengnttab_handle *xgt,
                               struct xenner_gnttab_batch *batch)
    __attribute__((weak));

#endif
