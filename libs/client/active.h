/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Handles that xentoolcore_restrict_all() (xentoolcore.h) asks to give up all
 * but one domain. Ours cannot be held to that: each says so, so that a caller
 * that wants it ends instead of going on with all its rights.
 */
#ifndef LIBS_ACTIVE_H
#define LIBS_ACTIVE_H

#include <stdint.h>

/* As libxentoolcore has it: three words (xentoolcore_internal.h of Xen). */
struct active_handle {
    int (*restrict_callback)(struct active_handle *handle, uint32_t domid);
    struct {
        struct active_handle *next, **prev;
    } entry;
};

/* For the length of a handle's life. Nothing where nobody has libxentoolcore
 * loaded: then nobody can restrict either. */
void active_handle_add(struct active_handle *handle);
void active_handle_remove(struct active_handle *handle);

#endif
