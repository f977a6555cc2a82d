/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "active.h"

void xentoolcore__register_active_handle(struct active_handle *handle)
    __attribute__((weak));
void xentoolcore__deregister_active_handle(struct active_handle *handle)
    __attribute__((weak));

void active_handle_add(struct active_handle *handle,
                       active_restrict_t *restrict_to)
{
    handle->restrict_callback = restrict_to;
    if (xentoolcore__register_active_handle)
        xentoolcore__register_active_handle(handle);
}

/* One that libxentoolcore was not there for has no place in its list. */
void active_handle_remove(struct active_handle *handle)
{
    if (handle->entry.prev && xentoolcore__deregister_active_handle)
        xentoolcore__deregister_active_handle(handle);
}
