/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Grants of a domain to the host: entries checked, marked as in use, and
 * turned into frames of its vmcore.
 */
#ifndef LIBS_GNTTAB_GRANTS_H
#define LIBS_GNTTAB_GRANTS_H

#include <stdbool.h>
#include <stdint.h>

#include <xen/grant_table.h>

#include "guest.h"
#include "libs/client/vmcore.h"

struct pin;

#define NR_PIN_BUCKETS 256
#define NR_IDLE_PINS 128

/* A handle's way to a domain's memory and grants, for as long as it is. */
struct grantor {
    struct grantor *next;
    struct vmcore core;
    grant_entry_v1_t *entries;
    struct guest *guest;
    unsigned int users;
    int64_t checked_ns; /* when the domain was there last */
    struct pin *pins[NR_PIN_BUCKETS];
    struct pin *idle[NR_IDLE_PINS]; /* a ring of what nobody uses now */
    unsigned int next_idle;
};

/* By its number; NULL and errno. To be given back with grantor_put(). */
struct grantor *grantor_get(struct grantor **all, uint32_t domid);
void grantor_put(struct grantor **all, struct grantor *grantor);
void grantor_free(struct grantor *grantor);
void grantors_drop_unused(struct grantor **all);

/* Where a frame is in its guest's view with that PROT_*; NULL and errno. */
char *grantor_view(struct grantor *grantor, int prot, uint64_t frame);

/* Around grant_begin() and grant_end(), of as many as there are at once. */
void grants_lock(void);
void grants_unlock(void);

/*
 * Begin to use a grant: GNTST_*. Its GTF_reading, and GTF_writing if asked
 * for, stand in the entry until as many grant_end(); frame is where it leads.
 */
int16_t grant_begin(struct grantor *grantor, uint32_t ref, bool writable,
                    uint64_t *frame);
void grant_end(struct grantor *grantor, uint32_t ref, bool writable);

/*
 * pins.c: a frame that is mapped stays with the guest until frame_unpin()
 * of its pin. is_there: it has memory that can be mapped (vmcore_fill()).
 * NULL and errno.
 */
struct pin *frame_pin(struct grantor *grantor, uint64_t frame, bool *is_there);
void frame_unpin(struct grantor *grantor, struct pin *pin);
void pins_free(struct grantor *grantor);

#endif
