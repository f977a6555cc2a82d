/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What Xen's libxengnttab has not: a caller looks whether it is there. Each page
 * is a mapping of its own, as of xengnttab_map_domain_grant_refs() with a count
 * of 1, but all of a packet's are made and ended at one go.
 */
#ifndef LIBS_GNTTAB_EACH_H
#define LIBS_GNTTAB_EACH_H

#include <xengnttab.h>

#define XENNER_GNTTAB_MAX_EACH 32

/* All or none: 0, or -1 and errno; EINVAL if there are more than MAX_EACH. */
int xenner_gnttab_map_each(xengnttab_handle *xgt, uint32_t count,
                           uint32_t domid, const uint32_t *refs, int prot,
                           void **addresses) __attribute__((weak));
/* -1 and EINVAL: one of them was not mapped; the others are no more. */
int xenner_gnttab_unmap_each(xengnttab_handle *xgt, uint32_t count,
                             void *const *addresses) __attribute__((weak));

#endif
