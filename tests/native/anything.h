/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread in evtchnd's place, which answers anything: what libs/ believes of
 * a server is tested with it. The seed makes it the same in every run.
 */
#ifndef TESTS_NATIVE_ANYTHING_H
#define TESTS_NATIVE_ANYTHING_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libs/client/client.h"
#include "tests/native/harness.h"

#define MAX_SENT 6

static int listener;
static uint64_t seed;
static pthread_t server;

/* What it says of domains, where it does not invent that: 5 is the only one
 * beside the host. */
static bool is_honest;
static uint32_t honest_error = ESRCH; /* of the other domains */
static struct evtchnd_domain honest_domain = {
    .domid = 5,
    .nr_ports = 4096,
    .nr_vcpus = 2,
    .nr_pages = 4096,
};

/* A page that is right, or one that is too short, or none at all. */
static int some_fd(void)
{
    int fd;

    switch (random64(&seed) % 4) {
    case 0:
        return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    case 1:
        return dup(listener);
    default:
        fd = memfd_create("page", MFD_CLOEXEC);
        if (ftruncate(fd, random64(&seed) % 4
                              ? (off_t)sizeof(struct evtchnd_page)
                              : 100))
            exit(1);
        return fd;
    }
}

static void fill_domain(struct evtchnd_reply *reply, uint32_t domid)
{
    reply->fds = 0;
    if (is_honest && domid <= honest_domain.domid) {
        reply->domain = honest_domain;
    } else if (is_honest) {
        reply->error = honest_error;
    } else {
        reply->domain = honest_domain;
        reply->domain.domid = domid + (uint32_t)(random64(&seed) % 3);
        reply->domain.flags = (uint32_t)random64(&seed);
        reply->domain.nr_vcpus = (uint32_t)(random64(&seed) % 70);
        reply->domain.nr_pages = random64(&seed);
        reply->domain.pid = (uint32_t)(random64(&seed) % 70000);
    }
}

static void fill(struct evtchnd_reply *reply,
                 const struct evtchnd_request *request)
{
    unsigned char *bytes = (void *)reply;

    memset(reply, 0, sizeof(*reply));
    reply->type = request->type;
    reply->tag = request->tag;
    reply->port = (uint32_t)(random64(&seed) % 8);
    reply->fds = 0xf;
    reply->status = 2;
    reply->remote_port = (uint32_t)random64(&seed);
    reply->page_kind = 1 + (uint32_t)(random64(&seed) % 2);
    reply->page_id = random64(&seed) % 3;
    if (request->type == EVTCHND_HELLO)
        reply->fds = EVTCHND_FD_PAGE | EVTCHND_FD_DOORBELL;
    if (request->type == EVTCHND_DOMAIN_INFO)
        fill_domain(reply, request->dom);
    if (is_honest)
        return;
    for (uint64_t n = random64(&seed) % 4; n > 2; n--)
        bytes[random64(&seed) % sizeof(*reply)] = (unsigned char)seed;
}

static void answer(int fd, const struct evtchnd_request *request)
{
    union {
        char bytes[CMSG_SPACE(MAX_SENT * sizeof(int))];
        struct cmsghdr head;
    } control = {0};
    struct evtchnd_reply reply[2];
    struct iovec data = {reply, sizeof(reply[0])};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    int fds[MAX_SENT];
    unsigned int nr_fds;

    fill(&reply[0], request);
    nr_fds = (unsigned int)__builtin_popcount(reply[0].fds & 0xf);
    if (!is_honest && random64(&seed) % 8 == 0)
        nr_fds = (unsigned int)(random64(&seed) % (MAX_SENT + 1));
    if (!is_honest && random64(&seed) % 16 == 0)
        data.iov_len = random64(&seed) % sizeof(reply);
    for (unsigned int i = 0; i < nr_fds; i++)
        fds[i] = i & 1 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : some_fd();
    if (nr_fds) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
        memcpy(CMSG_DATA(&control.head), fds, nr_fds * sizeof(int));
    }
    sendmsg(fd, &message, MSG_NOSIGNAL);
    for (unsigned int i = 0; i < nr_fds; i++)
        close(fds[i]);
}

static void *serve(void *unused)
{
    struct evtchnd_request request;
    int fd;

    (void)unused;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        while (recv(fd, &request, sizeof(request), 0) == sizeof(request)) {
            if (!is_honest && random64(&seed) % 32 == 0)
                break;
            answer(fd, &request);
        }
        close(fd);
    }
    return NULL;
}

static void start_server(uint64_t with_seed)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    seed = with_seed;
    if (evtchnd_runtime_path(address.sun_path, sizeof(address.sun_path),
                             "evtchnd.socket"))
        exit(1);
    unlink(address.sun_path);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
        listen(listener, 64) || pthread_create(&server, NULL, serve, NULL))
        exit(1);
}

/* The listener stays open, for nr_fds(). */
static void stop_server(void)
{
    shutdown(listener, SHUT_RDWR);
    pthread_join(server, NULL);
}

#endif
