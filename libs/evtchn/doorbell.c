/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Doorbells, and the descriptors that a handle waits for. */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "handle.h"

int arm(xenevtchn_handle *xce, int how, int fd, uint32_t events,
        uint64_t source)
{
    struct epoll_event event = {.events = events, .data.u64 = source};

    return epoll_ctl(xce->epoll, how, fd, &event);
}

int keep_over_exec(const xenevtchn_handle *xce, int fd)
{
    return xce->client.cloexec ? 0 : fcntl(fd, F_SETFD, 0);
}

void ring(int doorbell)
{
    static const uint64_t one = 1;
    int saved = errno;
    ssize_t written;

    /* EAGAIN: there are 2**64 - 2 rings in it already. */
    written = write(doorbell, &one, sizeof(one));
    (void)written;
    errno = saved;
}
