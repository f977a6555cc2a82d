/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server that says anything: the client and libxenevtchn must fail without
 * crashing, leaking or waiting for ever.
 */
#include "tests/native/harness.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <xenevtchn.h>

#include "libs/client/client.h"

#define NR_CLIENTS 400
#define MAX_SENT 6

static int listener;
static uint64_t seed;

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
        reply->fds = EVTCHND_FD_PAGE | EVTCHND_FD_BELL;
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
    if (random64(&seed) % 8 == 0)
        nr_fds = (unsigned int)(random64(&seed) % (MAX_SENT + 1));
    if (random64(&seed) % 16 == 0)
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
            if (random64(&seed) % 32 == 0)
                break;
            answer(fd, &request);
        }
        close(fd);
    }
    return NULL;
}

static unsigned int nr_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    unsigned int n = 0;

    while (readdir(directory))
        n++;
    closedir(directory);
    return n;
}

static unsigned int use_once(void)
{
    xenevtchn_handle *xce = xenevtchn_open(NULL, 0);
    struct pollfd fd;
    unsigned int bound = 0;
    int port;

    if (!xce)
        return 0;
    for (int i = 0; i < 6; i++) {
        port = i & 1 ? xenevtchn_bind_unbound_port(xce, 0)
                     : xenevtchn_bind_interdomain(xce, 0, 3);
        bound += port > 0;
        if (port > 0)
            xenevtchn_notify(xce, (evtchn_port_t)port);
        fd = (struct pollfd){.fd = xenevtchn_fd(xce), .events = POLLIN};
        if (bound && poll(&fd, 1, 0) == 1)
            xenevtchn_unmask(xce, (evtchn_port_t)xenevtchn_pending(xce));
        if (port > 0 && i > 3)
            xenevtchn_unbind(xce, (evtchn_port_t)port);
    }
    xenevtchn_close(xce);
    return 1;
}

TEST(a_server_that_says_anything)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    unsigned int before, opened = 0;
    pthread_t server;

    seed = 0x9e3779b97f4a7c15;
    CHECK_EQ(evtchnd_runtime_path(address.sun_path, sizeof(address.sun_path),
                                  "evtchnd.socket"),
             0);
    unlink(address.sun_path);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_EQ(listen(listener, 64), 0);
    pthread_create(&server, NULL, serve, NULL);
    before = nr_fds();
    for (int i = 0; i < NR_CLIENTS; i++)
        opened += use_once();
    /* Of enough of them more than the first message was looked at. */
    CHECK(opened > NR_CLIENTS / 8);
    shutdown(listener, SHUT_RDWR);
    pthread_join(server, NULL);
    CHECK_EQ(nr_fds(), before);
    close(listener);
}
