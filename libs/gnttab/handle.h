/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A handle of libxengnttab's, and what it has mapped. */
#ifndef LIBS_GNTTAB_HANDLE_H
#define LIBS_GNTTAB_HANDLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <xengnttab.h>

#include "grants.h"
#include "libs/client/active.h"

struct page {
    struct grantor *grantor;
    struct pin *pin;
    uint64_t frame;
    uint32_t ref;
    bool is_there; /* if not, the mapping has zeros of its own */
};

struct mapping {
    struct mapping *next, **link; /* link: a batch's only, what points to it */
    char *address;                /* NULL: a batch, whose pages are in a view */
    uint32_t nr_pages;
    uint32_t nr_begun, nr_pinned; /* of them: grants in use, frames pinned */
    bool writable;
    bool is_own;           /* not in a grantor's view */
    uint32_t clear_offset; /* of the byte to clear at the end; ~0: none */
    struct page page[];
};

#define NR_BUCKETS 256
#define NR_SIZES 3

struct xengntdev_handle {
    struct active_handle active;
    pthread_mutex_t lock;
    bool is_restricted; /* maps and copies nothing more */
    int fd;             /* nothing comes of it, but callers may ask for one */
    struct grantor *grantors;
    struct mapping *mappings[NR_BUCKETS]; /* by address */
    struct mapping *batches;
    struct mapping *free[NR_SIZES]; /* those that have been, by size */
};

/* mapping.c */
/* With nothing in use yet and without an address; NULL and errno. */
struct mapping *mapping_new(xengnttab_handle *xgt, uint32_t nr_pages);
/*
 * Begin to use its grants; 0, or -1 and errno. domids has one for each page, or
 * one for all.
 */
int mapping_begin(xengnttab_handle *xgt, struct mapping *mapping,
                  const uint32_t *domids, bool is_one_domain,
                  const uint32_t *refs);
/* Its frames stay with their guests; 0, or -1 and errno. */
int mapping_pin(struct mapping *mapping);
/* Give it an address that no other has; 0, or -1 and errno. */
int mapping_place_apart(struct mapping *mapping, int prot);
/* The end of all that was begun. */
void mapping_end(xengnttab_handle *xgt, struct mapping *mapping);

/* batch.c */
void batch_end(xengnttab_handle *xgt, struct mapping *batch);

#endif
