/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libxenforeignmemory: pages of a domain, by machine frame number, which is
 * what Xen calls the gfn of a PV domain.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenforeignmemory.h>

#include "libs/client/active.h"
#include "libs/client/vmcore.h"

/* Nothing is kept from call to call: a domid may be another domain's next. */
struct xenforeignmemory_handle {
    struct active_handle active;
    bool is_restricted;
    struct vmcore only; /* what it is restricted to */
};

static int restrict_handle(struct active_handle *active, uint32_t domid);

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *logger,
                                               unsigned int open_flags)
{
    xenforeignmemory_handle *fmem;

    (void)logger, (void)open_flags; /* Xen's takes any flags too */
    fmem = calloc(1, sizeof(*fmem));
    if (fmem)
        active_handle_add(&fmem->active, restrict_handle);
    return fmem;
}

int xenforeignmemory_close(xenforeignmemory_handle *fmem)
{
    if (fmem)
        active_handle_remove(&fmem->active);
    if (fmem && fmem->is_restricted)
        close(fmem->only.fd);
    free(fmem);
    return 0;
}

int xenforeignmemory_restrict(xenforeignmemory_handle *fmem, domid_t domid)
{
    if (fmem->is_restricted) {
        errno = EINVAL;
        return fmem->only.domid == domid ? 0 : -1;
    }
    if (vmcore_open(&fmem->only, domid, true))
        return -1;
    fmem->is_restricted = true;
    return 0;
}

/* The handle is the first that there is in it. */
static int restrict_handle(struct active_handle *active, uint32_t domid)
{
    return xenforeignmemory_restrict((xenforeignmemory_handle *)(void *)active,
                                     (domid_t)domid);
}

/*
 * A domain's memory, opened anew: what is mapped of it then is pinned until it
 * is unmapped. Who may not open it any more holds it until the handle goes.
 */
static int open_memory(xenforeignmemory_handle *fmem, uint32_t domid,
                       struct vmcore *core)
{
    char path[64];

    if (!fmem->is_restricted)
        return vmcore_open(core, domid, true);
    if (domid != fmem->only.domid) {
        errno = EPERM;
        return -1;
    }
    *core = fmem->only;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fmem->only.fd);
    core->fd = open(path, O_RDWR | O_CLOEXEC);
    if (core->fd < 0)
        core->fd = fcntl(fmem->only.fd, F_DUPFD_CLOEXEC, 0);
    return core->fd < 0 ? -1 : 0;
}

/*
 * One frame, pinned for as long as it is mapped: the lock belongs to the file
 * that each call opens anew and that its mappings alone keep open.
 */
static int map_one(const struct vmcore *core, void *where, int prot,
                   uint64_t frame)
{
    if (vmcore_pin(core, frame, 1))
        return -1;
    if (!vmcore_fill(core, frame, 1))
        return vmcore_map_zeros(where, prot, 1);
    return vmcore_map(core, where, prot, &frame, 1);
}

/* Map the good frames; what is not stays without access. */
static int map_good(const struct vmcore *core, void *where, int prot,
                    size_t nr_pages, const xen_pfn_t *frame, int *err)
{
    char *at = where;

    for (size_t i = 0; i < nr_pages; i++) {
        err[i] = 0;
        if (!vmcore_has_frame(core, frame[i]))
            err[i] = -EINVAL;
        else if (map_one(core, at + i * VMCORE_PAGE_BYTES, prot, frame[i]))
            err[i] = -errno;
    }
    return 0;
}

static int map_all(const struct vmcore *core, void *where, int prot,
                   size_t nr_pages, const xen_pfn_t *frame)
{
    bool is_full = false;
    char *at = where;

    for (size_t i = 0; i < nr_pages; i++) {
        if (!vmcore_has_frame(core, frame[i])) {
            errno = EINVAL;
            return -1;
        }
    }
    for (size_t i = 0; i < nr_pages && !is_full; i++) {
        if (vmcore_pin(core, frame[i], 1))
            return -1;
        is_full = !vmcore_fill(core, frame[i], 1);
    }
    _Static_assert(sizeof(xen_pfn_t) == sizeof(uint64_t), "x86-64");
    if (!is_full)
        return vmcore_map(core, where, prot, (const uint64_t *)frame, nr_pages);
    for (size_t i = 0; i < nr_pages; i++) {
        if (map_one(core, at + i * VMCORE_PAGE_BYTES, prot, frame[i]))
            return -1;
    }
    return 0;
}

void *xenforeignmemory_map2(xenforeignmemory_handle *fmem, uint32_t dom,
                            void *addr, int prot, int flags, size_t nr_pages,
                            const xen_pfn_t *frame, int *err)
{
    struct vmcore core;
    void *where;
    int rc, saved;

    if (open_memory(fmem, dom, &core))
        return NULL;
    where = vmcore_reserve(addr, nr_pages, flags & MAP_FIXED);
    rc = -1;
    if (where)
        rc = err ? map_good(&core, where, prot, nr_pages, frame, err)
                 : map_all(&core, where, prot, nr_pages, frame);
    saved = errno;
    if (rc && where)
        munmap(where, nr_pages * VMCORE_PAGE_BYTES);
    close(core.fd);
    errno = saved;
    return rc ? NULL : where;
}

void *xenforeignmemory_map(xenforeignmemory_handle *fmem, uint32_t dom,
                           int prot, size_t nr_pages, const xen_pfn_t *frame,
                           int *err)
{
    return xenforeignmemory_map2(fmem, dom, NULL, prot, 0, nr_pages, frame,
                                 err);
}

int xenforeignmemory_unmap(xenforeignmemory_handle *fmem, void *addr,
                           size_t nr_pages)
{
    (void)fmem;
    return munmap(addr, nr_pages * VMCORE_PAGE_BYTES);
}

/* Grant tables and ioreq pages as resources: who wants them copes without. */
xenforeignmemory_resource_handle *
xenforeignmemory_map_resource(xenforeignmemory_handle *fmem, domid_t domid,
                              unsigned int type, unsigned int id,
                              unsigned long frame, unsigned long nr_frames,
                              void **paddr, int prot, int flags)
{
    (void)fmem, (void)domid, (void)type, (void)id, (void)frame;
    (void)nr_frames, (void)paddr, (void)prot, (void)flags;
    errno = EOPNOTSUPP;
    return NULL;
}

int xenforeignmemory_unmap_resource(xenforeignmemory_handle *fmem,
                                    xenforeignmemory_resource_handle *fres)
{
    (void)fmem;
    if (!fres)
        return 0;
    errno = EINVAL;
    return -1;
}

int xenforeignmemory_resource_size(xenforeignmemory_handle *fmem, domid_t domid,
                                   unsigned int type, unsigned int id,
                                   size_t *size)
{
    (void)fmem, (void)domid, (void)type, (void)id, (void)size;
    errno = EOPNOTSUPP;
    return -1;
}
