/* SPDX-License-Identifier: GPL-2.0-or-later */
/* xen_version: who we say we are. Xen 4.17 is the ABI that we follow. */

#include "emu/emu.h"

#define VERSION_MAJOR 4
#define VERSION_MINOR 17

static int put_string(uint64_t arg, const char *text, uint64_t bytes)
{
    char buffer[sizeof(xen_capabilities_info_t)];
    uint64_t n = 0;

    memset(buffer, 0, sizeof(buffer));
    while (text[n] && n < bytes - 1) {
        buffer[n] = text[n];
        n++;
    }
    return copy_to_guest(arg, buffer, bytes);
}

static int get_features(uint64_t arg)
{
    struct xen_feature_info f;

    if (copy_from_guest(&f, arg, sizeof(f)))
        return -XEN_EFAULT;
    if (f.submap_idx != 0)
        return -XEN_EINVAL;
    f.submap = 1U << XENFEAT_writable_descriptor_tables |
               1U << XENFEAT_pae_pgdir_above_4gb |
               1U << XENFEAT_mmu_pt_update_preserve_ad |
               1U << XENFEAT_gnttab_map_avail_bits |
               1U << XENFEAT_highmem_assist;
    return copy_to_guest(arg, &f, sizeof(f));
}

static int compile_info(uint64_t arg)
{
    struct xen_compile_info c;

    memset(&c, 0, sizeof(c));
    memcpy(c.compiler, "gcc " __VERSION__, sizeof("gcc " __VERSION__) - 1);
    memcpy(c.compile_by, "xenner", 6);
    memcpy(c.compile_domain, "xenner", 6);
    memcpy(c.compile_date, "reproducible", 12);
    return copy_to_guest(arg, &c, sizeof(c));
}
_Static_assert(sizeof("gcc " __VERSION__) <=
                   sizeof(((struct xen_compile_info *)0)->compiler),
               "compiler's name");

int64_t do_xen_version(struct vcpu *v, guest_word cmd, guest_word arg,
                       guest_word a3, guest_word a4, guest_word a5)
{
    struct xen_platform_parameters p = {
        .virt_start = SLOT_VIRT(XEN_FIRST_SLOT),
    };

    switch (cmd) {
    case XENVER_version:
        return VERSION_MAJOR << 16 | VERSION_MINOR;
    case XENVER_extraversion:
        return put_string(arg, ".0-xenner", sizeof(xen_extraversion_t));
    case XENVER_compile_info:
        return compile_info(arg);
    case XENVER_capabilities:
        return put_string(arg, "xen-3.0-x86_64",
                          sizeof(xen_capabilities_info_t));
    case XENVER_changeset:
        return put_string(arg, "unavailable", sizeof(xen_changeset_info_t));
    case XENVER_platform_parameters:
        return copy_to_guest(arg, &p, sizeof(p));
    case XENVER_get_features:
        return get_features(arg);
    case XENVER_pagesize:
        return arg ? -XEN_EINVAL : (int64_t)PAGE_SIZE;
    case XENVER_guest_handle:
        return copy_to_guest(arg, shared->handle, sizeof(shared->handle));
    case XENVER_commandline:
        return put_string(arg, "", sizeof(xen_capabilities_info_t));
    case XENVER_build_id:
        return -XEN_ENODATA;
    default:
        return -XEN_ENOSYS;
    }
}
