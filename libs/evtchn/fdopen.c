/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A handle that went through exec(2): a daemon that updates itself opens it
 * with XENEVTCHN_NO_CLOEXEC and has nothing afterwards but the number of its
 * epoll descriptor. The kernel says what is in that (proc(5), fdinfo: the
 * descriptor and the data of each), evtchnd the rest: the connection is still
 * the same, and so the ports are still this handle's.
 */
#include "handle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct watched {
    int fd;
    uint64_t source;
};

/* All that an epoll descriptor has. NULL and errno; EINVAL: it has nothing. */
static struct watched *read_watched(int epoll, size_t *n)
{
    struct watched *found = NULL, *larger, one;
    char path[64], line[256];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epoll);
    file = fopen(path, "re");
    if (!file) {
        errno = EBADF;
        return NULL;
    }
    for (*n = 0; fgets(line, sizeof(line), file);) {
        if (sscanf(line, "tfd: %d events: %*x data: %" SCNx64, &one.fd,
                   &one.source) != 2)
            continue;
        larger = realloc(found, (*n + 1) * sizeof(*found));
        if (!larger) {
            free(found);
            found = NULL;
            break;
        }
        found = larger;
        found[(*n)++] = one;
    }
    errno = *n ? ENOMEM : EINVAL;
    fclose(file);
    return found;
}

/* The number of one's descriptor as it was when it was put there. */
static bool is_there(xenevtchn_handle *xce, const struct watched *one,
                     uint32_t events)
{
    return !arm(xce, EPOLL_CTL_MOD, one->fd, events, one->source);
}

static void adopt_one(xenevtchn_handle *xce, const struct watched *one)
{
    switch (one->source & SOURCE_KINDS) {
    case SOURCE_PAGE:
        if (is_there(xce, one, EPOLLIN | EPOLLET)) {
            xce->doorbell = one->fd;
            xce->page_fd = (int)(uint32_t)one->source;
        }
        break;
    case SOURCE_TIMER:
        if (is_there(xce, one, EPOLLIN | EPOLLET))
            xce->timer = one->fd;
        break;
    case SOURCE_SOCKET:
        if (is_there(xce, one, EPOLLRDHUP | EPOLLET)) {
            xce->client.fd = one->fd;
            xce->only_domid = (uint32_t)one->source;
        }
        break;
    default:
        break;
    }
}

/* What set_up() made. EINVAL: it is no handle's descriptor. */
static int adopt_parts(xenevtchn_handle *xce, const struct watched *watched,
                       size_t n)
{
    struct stat file;

    for (size_t i = 0; i < n; i++)
        adopt_one(xce, &watched[i]);
    if (xce->doorbell < 0 || xce->timer < 0 || xce->client.fd < 0 ||
        fstat(xce->page_fd, &file) ||
        file.st_size < (off_t)sizeof(*xce->page)) {
        errno = EINVAL;
        return -1;
    }
    xce->page = mmap(NULL, sizeof(*xce->page), PROT_READ | PROT_WRITE,
                     MAP_SHARED, xce->page_fd, 0);
    return xce->page == MAP_FAILED ? -1 : 0;
}

/*
 * A port's doorbells come anew. It is told as pending once: it may have been on
 * its way to who called exec(2).
 */
static void adopt_port(xenevtchn_handle *xce, const struct watched *one)
{
    struct evtchnd_request request = {
        .type = EVTCHND_LINK,
        .dom = EVTCHND_SELF,
        .port = (uint32_t)one->source,
    };
    struct evtchnd_answer answer;
    struct port *port;

    if (one->source & SOURCE_KINDS ||
        evtchnd_call(&xce->client, &request, -1, -1, &answer))
        return;
    if (!epoll_ctl(xce->epoll, EPOLL_CTL_DEL, one->fd, NULL))
        close(one->fd);
    pthread_mutex_lock(&xce->lock);
    port = port_open(xce, &answer);
    if (port) {
        port_make_ready(xce, port);
        make_readable(xce);
    }
    pthread_mutex_unlock(&xce->lock);
}

static xenevtchn_handle *adopt(int fd, const struct watched *watched, size_t n)
{
    xenevtchn_handle *xce = handle_new();

    if (!xce)
        return NULL;
    evtchnd_adopt(&xce->client);
    xce->epoll = fd;
    if (adopt_parts(xce, watched, n)) {
        /* What was found in it stays as it was. */
        evtchnd_forget(&xce->client);
        handle_free(xce);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        adopt_port(xce, &watched[i]);
    return xce;
}

/* EINVAL for any flag, as Xen's: what it is of is open already. */
xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd,
                                   unsigned int open_flags)
{
    struct watched *watched;
    xenevtchn_handle *xce;
    size_t n;

    (void)logger;
    if (open_flags) {
        errno = EINVAL;
        return NULL;
    }
    watched = read_watched(fd, &n);
    if (!watched)
        return NULL;
    xce = adopt(fd, watched, n);
    free(watched);
    if (xce)
        handle_listed(xce);
    return xce;
}
