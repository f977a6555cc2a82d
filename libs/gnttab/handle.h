/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A handle of libxengnttab's, and what it has mapped. */
#ifndef LIBS_GNTTAB_HANDLE_H
#define LIBS_GNTTAB_HANDLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

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
    char *address;                /* NULL: a batch whose pages are in a view */
    uint32_t nr_pages;
    uint32_t nr_begun, nr_pinned; /* of them: grants in use, frames pinned */
    bool writable;
    bool is_own;           /* not in a grantor's view */
    uint32_t clear_offset; /* of the byte to clear at the end; ~0: none */
    struct page page[];
};

#define NR_BUCKETS 256

struct xengntdev_handle {
    struct active_handle active;
    pthread_mutex_t lock;
    bool is_restricted; /* maps and copies nothing more */
    int fd;             /* nothing comes of it, but callers may ask for one */
    struct grantor *grantors;
    struct mapping *mappings[NR_BUCKETS]; /* by address */
    struct mapping *batches;
    struct mapping *free_singles, *free_batches; /* free lists, by size */
};

#endif
