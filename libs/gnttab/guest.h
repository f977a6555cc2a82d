/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this process has of one guest, for all its handles: its grant table, who
 * uses which grant, and a view of all its memory.
 *
 * A view is one mapping, whatever the guest grants and however often: the host
 * lets a process have 65530 mappings (vm.max_map_count), all its guests together.
 */
#ifndef LIBS_GNTTAB_GUEST_H
#define LIBS_GNTTAB_GUEST_H

#include <stdint.h>

#include <xen/grant_table.h>

#include "abi/layout.h"
#include "libs/client/vmcore.h"

/* As many as a domain's table has. */
#define NR_GRANTS (GRANT_FRAMES_BYTES / sizeof(grant_entry_v1_t))

/* Uses of a grant by this process. */
struct use {
    uint32_t readers, writers; /* whoever writes reads too */
    int slot;                  /* in this process's mapper file */
};

struct guest {
    struct guest *next;
    uint64_t identity; /* of its vmcore */
    uint64_t bytes;
    unsigned int nr_grantors;
    grant_entry_v1_t *entries; /* version 1 */
    char *view[2];             /* to be read, to be written; NULL: none yet */
    /* The marks in an entry are bits: the last use clears them. */
    struct use of[NR_GRANTS];
};

/* By its memory; NULL and errno. To be given back with guest_put(). */
struct guest *guest_get(const struct vmcore *core);
void guest_put(struct guest *guest);

/*
 * Where its memory begins in the view with that PROT_*: a processor that may not
 * write there is what keeps a grant that is read-only so. NULL and errno; EINVAL:
 * there is no such view.
 */
char *guest_view(struct guest *guest, const struct vmcore *core, int prot);

#endif
