/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Handles that xentoolcore_restrict_all() (xentoolcore.h) asks to give up all
 * but one domain. As with Xen's, a restricted handle of libxenevtchn and of
 * libxenforeignmemory has that domain only, one of libxencall and libxengnttab
 * nothing more. It is the handle that is held to it: whoever could still open
 * another one must be kept from that by other means, as Xen says too.
 */
#ifndef LIBS_ACTIVE_H
#define LIBS_ACTIVE_H

#include <stdint.h>

/* As libxentoolcore has it: three words (xentoolcore_internal.h of Xen). */
struct active_handle;
typedef int active_restrict_t(struct active_handle *handle, uint32_t domid);

struct active_handle {
    active_restrict_t *restrict_callback;
    struct {
        struct active_handle *next, **prev;
    } entry;
};

/* For the length of a handle's life. Nothing where nobody has libxentoolcore
 * loaded: then nobody can restrict either. */
void active_handle_add(struct active_handle *handle,
                       active_restrict_t *restrict_to);
void active_handle_remove(struct active_handle *handle);

#endif
