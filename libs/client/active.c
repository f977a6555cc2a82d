/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "active.h"

#include <errno.h>

void xentoolcore__register_active_handle(struct active_handle *handle)
    __attribute__((weak));
void xentoolcore__deregister_active_handle(struct active_handle *handle)
    __attribute__((weak));

static int refuse(struct active_handle *handle, uint32_t domid)
{
    (void)handle, (void)domid;
    errno = EOPNOTSUPP;
    return -1;
}

void active_handle_add(struct active_handle *handle)
{
    handle->restrict_callback = refuse;
    if (xentoolcore__register_active_handle)
        xentoolcore__register_active_handle(handle);
}

/* One that libxentoolcore was not there for has no place in its list. */
void active_handle_remove(struct active_handle *handle)
{
    if (handle->entry.prev && xentoolcore__deregister_active_handle)
        xentoolcore__deregister_active_handle(handle);
}
