/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a library of that name must have and no daemon uses, with the errno of
 * Xen's own library on a Linux that has neither: dma-bufs (ENOTTY, of
 * /dev/xen/gntdev without CONFIG_XEN_GNTDEV_DMABUF) and pages that the host
 * grants to a guest (ENOENT: no /dev/xen/gntalloc).
 */
#include <errno.h>
#include <stddef.h>

#include <xengnttab.h>

static int absent(void)
{
    errno = ENOTTY;
    return -1;
}

int xengnttab_dmabuf_exp_from_refs(xengnttab_handle *xgt, uint32_t domid,
                                   uint32_t flags, uint32_t count,
                                   const uint32_t *refs, uint32_t *fd)
{
    (void)xgt, (void)domid, (void)flags, (void)count, (void)refs, (void)fd;
    return absent();
}

int xengnttab_dmabuf_exp_wait_released(xengnttab_handle *xgt, uint32_t fd,
                                       uint32_t wait_to_ms)
{
    (void)xgt, (void)fd, (void)wait_to_ms;
    return absent();
}

int xengnttab_dmabuf_imp_to_refs(xengnttab_handle *xgt, uint32_t domid,
                                 uint32_t fd, uint32_t count, uint32_t *refs)
{
    (void)xgt, (void)domid, (void)fd, (void)count, (void)refs;
    return absent();
}

int xengnttab_dmabuf_imp_release(xengnttab_handle *xgt, uint32_t fd)
{
    (void)xgt, (void)fd;
    return absent();
}

xengntshr_handle *xengntshr_open(struct xentoollog_logger *logger,
                                 unsigned int open_flags)
{
    (void)logger, (void)open_flags;
    errno = ENOENT;
    return NULL;
}

int xengntshr_close(xengntshr_handle *xgs)
{
    return xgs ? absent() : 0;
}

int xengntshr_fd(xengntshr_handle *xgs)
{
    (void)xgs;
    return absent();
}

void *xengntshr_share_pages(xengntshr_handle *xgs, uint32_t domid, int count,
                            uint32_t *refs, int writable)
{
    (void)xgs, (void)domid, (void)count, (void)refs, (void)writable;
    absent();
    return NULL;
}

void *xengntshr_share_page_notify(xengntshr_handle *xgs, uint32_t domid,
                                  uint32_t *ref, int writable,
                                  uint32_t notify_offset,
                                  evtchn_port_t notify_port)
{
    (void)xgs, (void)domid, (void)ref, (void)writable;
    (void)notify_offset, (void)notify_port;
    absent();
    return NULL;
}

int xengntshr_unshare(xengntshr_handle *xgs, void *start_address,
                      uint32_t count)
{
    (void)xgs, (void)start_address, (void)count;
    return absent();
}
