/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guest.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct guest *guests;

static struct guest *guest_new(const struct vmcore *core)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    if (!guest)
        return NULL;
    guest->entries = mmap(NULL, GRANT_FRAMES_BYTES, PROT_READ | PROT_WRITE,
                          MAP_SHARED, core->fd, GRANT_FRAMES_GPA);
    if (guest->entries == MAP_FAILED) {
        free(guest);
        return NULL;
    }
    guest->identity = core->identity;
    guest->bytes = core->bytes;
    guest->next = guests;
    guests = guest;
    return guest;
}

struct guest *guest_get(const struct vmcore *core)
{
    struct guest *guest;

    pthread_mutex_lock(&lock);
    for (guest = guests; guest && guest->identity != core->identity;)
        guest = guest->next;
    if (!guest)
        guest = guest_new(core);
    if (guest)
        guest->nr_grantors++;
    pthread_mutex_unlock(&lock);
    return guest;
}

void guest_put(struct guest *guest)
{
    struct guest **link = &guests;

    pthread_mutex_lock(&lock);
    if (!--guest->nr_grantors) {
        while (*link != guest)
            link = &(*link)->next;
        *link = guest->next;
        for (int i = 0; i < 2; i++) {
            if (guest->view[i])
                munmap(guest->view[i], guest->bytes);
        }
        munmap(guest->entries, GRANT_FRAMES_BYTES);
        free(guest);
    }
    pthread_mutex_unlock(&lock);
}

static char *view_new(struct guest *guest, const struct vmcore *core, int prot,
                      char **view)
{
    void *map;

    pthread_mutex_lock(&lock);
    if (!*view) {
        map = mmap(NULL, guest->bytes, prot, MAP_SHARED, core->fd, 0);
        if (map != MAP_FAILED)
            __atomic_store_n(view, map, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&lock);
    return *view;
}

char *guest_view(struct guest *guest, const struct vmcore *core, int prot)
{
    char **view = &guest->view[prot & PROT_WRITE ? 1 : 0], *found;

    /* The processor cannot write what it cannot read. QEMU maps so. */
    if (prot == PROT_WRITE)
        prot |= PROT_READ;
    if (prot != PROT_READ && prot != (PROT_READ | PROT_WRITE)) {
        errno = EINVAL;
        return NULL;
    }
    found = __atomic_load_n(view, __ATOMIC_ACQUIRE);
    return found ? found : view_new(guest, core, prot, view);
}
