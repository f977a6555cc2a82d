/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What Xen would say of itself to a tool: emu says the same to a guest. */
#include "handle.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <xen/version.h>
#include <xen/xen.h>

#define MAJOR 4
#define MINOR 17

static long put(char *to, size_t bytes, const char *text)
{
    snprintf(to, bytes, "%s", text);
    return 0;
}

static long compile_info(struct xen_compile_info *info)
{
    memset(info, 0, sizeof(*info));
    put(info->compiler, sizeof(info->compiler), "gcc " __VERSION__);
    put(info->compile_by, sizeof(info->compile_by), "xenner");
    put(info->compile_domain, sizeof(info->compile_domain), "xenner");
    put(info->compile_date, sizeof(info->compile_date), "reproducible");
    return 0;
}

long do_xen_version(unsigned int cmd, void *arg)
{
    switch (cmd) {
    case XENVER_version:
        return MAJOR << 16 | MINOR;
    case XENVER_extraversion:
        return put(arg, sizeof(xen_extraversion_t), ".0-xenner");
    case XENVER_compile_info:
        return compile_info(arg);
    case XENVER_capabilities:
        return put(arg, sizeof(xen_capabilities_info_t), "xen-3.0-x86_64 ");
    case XENVER_changeset:
        return put(arg, sizeof(xen_changeset_info_t), "unavailable");
    case XENVER_commandline:
        return put(arg, sizeof(xen_commandline_t), "");
    case XENVER_platform_parameters:
        ((struct xen_platform_parameters *)arg)->virt_start =
            HYPERVISOR_VIRT_START;
        return 0;
    case XENVER_get_features:
        ((struct xen_feature_info *)arg)->submap = 0;
        return 0;
    case XENVER_pagesize:
        return 4096;
    case XENVER_guest_handle:
        memset(arg, 0, sizeof(xen_domain_handle_t));
        return 0;
    case XENVER_build_id:
        return -ENODATA; /* Xen's, where it was linked without one */
    default:
        return -ENOSYS;
    }
}
