/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "tests/native/blk_fakes.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <xenevtchn.h>
#include <xengnttab.h>

#include "libs/gnttab/batch.h"

char *fake_memory;
bool fake_is_slow;
unsigned int fake_nr_granted, fake_nr_mapped, fake_nr_notified, fake_nr_short;
static int memory_fd = -1, doorbell = -1;
/* All of it as the library maps it: to be read, and to be written. */
static char *view[2];

void fake_domain_new(void)
{
    memory_fd = memfd_create("domain", MFD_CLOEXEC);
    if (memory_fd < 0 || ftruncate(memory_fd, FAKE_PAGES * 4096L))
        exit(1);
    fake_memory = mmap(NULL, FAKE_PAGES * 4096L, PROT_READ | PROT_WRITE,
                       MAP_SHARED, memory_fd, 0);
    if (fake_memory == MAP_FAILED)
        exit(1);
    for (int i = 0; i < 2; i++)
        view[i] = mmap(NULL, FAKE_PAGES * 4096L,
                       i ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                       memory_fd, 0);
    fake_nr_granted = FAKE_PAGES;
    fake_nr_mapped = fake_nr_notified = fake_nr_short = 0;
}

void fake_domain_free(void)
{
    munmap(fake_memory, FAKE_PAGES * 4096L);
    for (int i = 0; i < 2; i++)
        munmap(view[i], FAKE_PAGES * 4096L);
    close(memory_fd);
}

/* The C library's, but for how long it takes. */
int fallocate(int fd, int mode, off_t at, off_t bytes)
{
    while (__atomic_load_n(&fake_is_slow, __ATOMIC_ACQUIRE))
        usleep(1000);
    return (int)syscall(SYS_fallocate, fd, mode, at, bytes);
}

void fake_send(void)
{
    eventfd_write(doorbell, 1);
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger,
                                 unsigned int flags)
{
    (void)logger, (void)flags;
    doorbell = eventfd(0, EFD_CLOEXEC);
    return (xenevtchn_handle *)&doorbell;
}

int xenevtchn_close(xenevtchn_handle *xce)
{
    (void)xce;
    return close(doorbell);
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    (void)xce;
    return doorbell;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce,
                                                     uint32_t domid,
                                                     evtchn_port_t port)
{
    (void)xce, (void)domid;
    if (port == FAKE_PORT)
        return 1;
    errno = EINVAL;
    return -1;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce, (void)port;
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    eventfd_t count;

    (void)xce;
    eventfd_read(doorbell, &count);
    return 1;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce, (void)port;
    return 0;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce, (void)port;
    fake_nr_notified++;
    return 0;
}

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger,
                                 unsigned int flags)
{
    (void)logger, (void)flags;
    return (xengnttab_handle *)&memory_fd;
}

int xengnttab_close(xengnttab_handle *xgt)
{
    (void)xgt;
    return 0;
}

/* May they be mapped, as far as the guest and the host are concerned? */
static bool may_map(const uint32_t *refs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (refs[i] >= __atomic_load_n(&fake_nr_granted, __ATOMIC_RELAXED)) {
            errno = EINVAL;
            return false;
        }
    }
    if (!__atomic_load_n(&fake_nr_short, __ATOMIC_RELAXED))
        return true;
    __atomic_fetch_sub(&fake_nr_short, 1, __ATOMIC_RELEASE);
    errno = ENOMEM;
    return false;
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *xgt, uint32_t count,
                                      uint32_t domid, uint32_t *refs, int prot)
{
    char *at;

    (void)xgt, (void)domid;
    if (!may_map(refs, count))
        return NULL;
    at = mmap(NULL, count * 4096L, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
              0);
    for (uint32_t i = 0; i < count; i++)
        mmap(at + i * 4096L, 4096, prot, MAP_SHARED | MAP_FIXED, memory_fd,
             refs[i] * 4096L);
    __atomic_fetch_add(&fake_nr_mapped, count, __ATOMIC_RELAXED);
    return at;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *at, uint32_t count)
{
    (void)xgt;
    __atomic_fetch_sub(&fake_nr_mapped, count, __ATOMIC_RELAXED);
    return munmap(at, count * 4096L);
}

/* Not in Xen's library: it is what tells the two apart. */
#ifndef WITH_LIBRARIES_OF_XEN
struct xenner_gnttab_batch {
    uint32_t count;
};

struct xenner_gnttab_batch *
xenner_gnttab_map_batch(xengnttab_handle *xgt, uint32_t count, uint32_t domid,
                        const uint32_t *refs, int prot, void **addresses)
{
    struct xenner_gnttab_batch *batch;

    (void)xgt, (void)domid;
    if (!may_map(refs, count))
        return NULL;
    batch = malloc(sizeof(*batch));
    batch->count = count;
    for (uint32_t i = 0; i < count; i++)
        addresses[i] = view[prot & PROT_WRITE ? 1 : 0] + refs[i] * 4096L;
    __atomic_fetch_add(&fake_nr_mapped, count, __ATOMIC_RELAXED);
    return batch;
}

void xenner_gnttab_unmap_batch(xengnttab_handle *xgt,
                               struct xenner_gnttab_batch *batch)
{
    (void)xgt;
    __atomic_fetch_sub(&fake_nr_mapped, batch->count, __ATOMIC_RELAXED);
    free(batch);
}
#endif
