/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <xen/xen.h>

#define PAGE_BYTES 4096

/* Hypercalls are no domain's: none is left, with what Xen's library says. */
static int restrict_handle(struct active_handle *active, uint32_t domid)
{
    xencall_handle *xcall = (xencall_handle *)(void *)active;

    (void)domid;
    xcall->is_restricted = true;
    shutdown(xcall->client.fd, SHUT_RDWR);
    return 0;
}

xencall_handle *xencall_open(struct xentoollog_logger *logger,
                             unsigned int open_flags)
{
    struct evtchnd_answer hello;
    xencall_handle *xcall;

    (void)logger, (void)open_flags; /* Xen's takes any flags too */
    xcall = calloc(1, sizeof(*xcall));
    if (!xcall)
        return NULL;
    if (evtchnd_connect(&xcall->client, true, -1, -1, &hello)) {
        free(xcall);
        return NULL;
    }
    evtchnd_discard(&hello);
    active_handle_add(&xcall->active, restrict_handle);
    return xcall;
}

int xencall_close(xencall_handle *xcall)
{
    if (!xcall)
        return 0;
    active_handle_remove(&xcall->active);
    evtchnd_disconnect(&xcall->client);
    free(xcall);
    return 0;
}

int xencall_fd(xencall_handle *xcall)
{
    return xcall->client.fd;
}

static long hypercall(xencall_handle *xcall, unsigned int op, uint64_t arg1,
                      uint64_t arg2)
{
    long rc;

    if (xcall->is_restricted) {
        errno = ENOTTY;
        return -1;
    }
    switch (op) {
    case __HYPERVISOR_domctl:
        rc = do_domctl(xcall, (void *)(uintptr_t)arg1);
        break;
    case __HYPERVISOR_sysctl:
        rc = do_sysctl(xcall, (void *)(uintptr_t)arg1);
        break;
    case __HYPERVISOR_xen_version:
        rc = do_xen_version((unsigned int)arg1, (void *)(uintptr_t)arg2);
        break;
    case __HYPERVISOR_event_channel_op:
        rc = do_event_channel_op(xcall, (unsigned int)arg1,
                                 (void *)(uintptr_t)arg2);
        break;
    default:
        rc = -ENOSYS;
    }
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}

int xencall0(xencall_handle *xcall, unsigned int op)
{
    return (int)hypercall(xcall, op, 0, 0);
}

int xencall1(xencall_handle *xcall, unsigned int op, uint64_t arg1)
{
    return (int)hypercall(xcall, op, arg1, 0);
}

int xencall2(xencall_handle *xcall, unsigned int op, uint64_t arg1,
             uint64_t arg2)
{
    return (int)hypercall(xcall, op, arg1, arg2);
}

int xencall3(xencall_handle *xcall, unsigned int op, uint64_t arg1,
             uint64_t arg2, uint64_t arg3)
{
    (void)arg3;
    return (int)hypercall(xcall, op, arg1, arg2);
}

int xencall4(xencall_handle *xcall, unsigned int op, uint64_t arg1,
             uint64_t arg2, uint64_t arg3, uint64_t arg4)
{
    (void)arg3, (void)arg4;
    return (int)hypercall(xcall, op, arg1, arg2);
}

int xencall5(xencall_handle *xcall, unsigned int op, uint64_t arg1,
             uint64_t arg2, uint64_t arg3, uint64_t arg4, uint64_t arg5)
{
    (void)arg3, (void)arg4, (void)arg5;
    return (int)hypercall(xcall, op, arg1, arg2);
}

long xencall2L(xencall_handle *xcall, unsigned int op, uint64_t arg1,
               uint64_t arg2)
{
    return hypercall(xcall, op, arg1, arg2);
}

void *xencall_alloc_buffer_pages(xencall_handle *xcall, size_t nr_pages)
{
    void *buffer = mmap(NULL, nr_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)xcall;
    return buffer == MAP_FAILED ? NULL : buffer;
}

void xencall_free_buffer_pages(xencall_handle *xcall, void *p, size_t nr_pages)
{
    (void)xcall;
    if (p)
        munmap(p, nr_pages * PAGE_BYTES);
}

/* The page before the buffer has its size. */
void *xencall_alloc_buffer(xencall_handle *xcall, size_t size)
{
    size_t nr_pages = size / PAGE_BYTES + !!(size % PAGE_BYTES);
    char *pages;

    if (nr_pages > SIZE_MAX / PAGE_BYTES - 1) {
        errno = ENOMEM;
        return NULL;
    }
    pages = xencall_alloc_buffer_pages(xcall, nr_pages + 1);
    if (!pages)
        return NULL;
    *(size_t *)(void *)pages = nr_pages + 1;
    return pages + PAGE_BYTES;
}

void xencall_free_buffer(xencall_handle *xcall, void *p)
{
    char *pages = p;

    if (!p)
        return;
    pages -= PAGE_BYTES;
    xencall_free_buffer_pages(xcall, pages, *(size_t *)(void *)pages);
}

/* Nothing but this process touches them. */
int xencall_buffers_never_fault(xencall_handle *xcall)
{
    (void)xcall;
    return 1;
}
