/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* linux/err.h: more is no errno, and -errno would be no error. */
#define MAX_ERRNO 4095

bool evtchnd_is_lost(int error)
{
    return error == ENOTCONN || error == EPIPE || error == ECONNRESET ||
           error == ECONNREFUSED || error == ENOENT;
}

static void close_fd(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

void evtchnd_discard(struct evtchnd_answer *answer)
{
    close_fd(&answer->in);
    close_fd(&answer->out);
    close_fd(&answer->page);
    close_fd(&answer->doorbell);
}

union ancillary {
    char bytes[CMSG_SPACE(EVTCHND_MAX_FDS * sizeof(int))];
    struct cmsghdr align;
};

static int send_request(int fd, struct evtchnd_request *request,
                        const int fds[2], unsigned int nr_fds)
{
    union ancillary ancillary = {0};
    struct iovec data = {request, sizeof(*request)};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    struct cmsghdr *rights = &ancillary.align;
    ssize_t sent;

    if (nr_fds) {
        message.msg_control = &ancillary;
        message.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, nr_fds * sizeof(int));
    }
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

/* What the descriptors are, in their order, stands in reply.fds. */
static unsigned int take_fds(struct evtchnd_answer *answer, const int *fds,
                             unsigned int nr_fds)
{
    int *places[] = {&answer->in, &answer->out, &answer->page,
                     &answer->doorbell};
    unsigned int used = 0, missing = 0;

    for (unsigned int i = 0; i < EVTCHND_MAX_FDS; i++) {
        if (!(answer->reply.fds >> i & 1))
            continue;
        if (used < nr_fds)
            *places[i] = fds[used++];
        else
            missing++;
    }
    while (used < nr_fds) {
        int extra = fds[used++];

        close_fd(&extra);
    }
    return missing;
}

static int receive_reply(int fd, struct evtchnd_answer *answer)
{
    union ancillary ancillary;
    struct iovec data = {&answer->reply, sizeof(answer->reply)};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &ancillary,
                             .msg_controllen = sizeof(ancillary)};
    struct cmsghdr *rights;
    int fds[EVTCHND_MAX_FDS];
    unsigned int nr_fds = 0;
    ssize_t received;

    do {
        received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (received < 0 && errno == EINTR);
    if (received < 0)
        return -1;
    rights = CMSG_FIRSTHDR(&message);
    if (rights && rights->cmsg_level == SOL_SOCKET &&
        rights->cmsg_type == SCM_RIGHTS) {
        nr_fds = (unsigned int)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(rights), nr_fds * sizeof(int));
    }
    if (received != sizeof(answer->reply)) {
        answer->reply.fds = 0;
        take_fds(answer, fds, nr_fds);
        errno = received ? EPROTO : EPIPE;
        return -1;
    }
    if (take_fds(answer, fds, nr_fds)) {
        evtchnd_discard(answer);
        errno = EMFILE;
        return -1;
    }
    return 0;
}

int evtchnd_call(struct evtchnd_client *client, struct evtchnd_request *request,
                 int in, int out, struct evtchnd_answer *answer)
{
    int fds[2], rc = -1;
    unsigned int nr_fds = 0;
    static uint32_t tags;

    memset(&answer->reply, 0, sizeof(answer->reply));
    answer->in = answer->out = answer->page = answer->doorbell = -1;
    if (in >= 0)
        fds[nr_fds++] = in;
    if (out >= 0)
        fds[nr_fds++] = out;
    request->tag = __atomic_add_fetch(&tags, 1, __ATOMIC_RELAXED);

    pthread_mutex_lock(&client->lock);
    if (client->fd < 0) {
        errno = ENOTCONN;
        goto out;
    }
    if (send_request(client->fd, request, fds, nr_fds) ||
        receive_reply(client->fd, answer))
        goto out;
    if (answer->reply.error) {
        errno = answer->reply.error <= MAX_ERRNO ? (int)answer->reply.error
                                                 : EPROTO;
        evtchnd_discard(answer);
        goto out;
    }
    if (answer->reply.tag != request->tag) {
        evtchnd_discard(answer);
        errno = EPROTO;
        goto out;
    }
    rc = 0;
out:
    pthread_mutex_unlock(&client->lock);
    return rc;
}

static int connect_socket(bool cloexec)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (evtchnd_runtime_path(address.sun_path, sizeof(address.sun_path),
                             "evtchnd.socket"))
        return -1;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | (cloexec ? SOCK_CLOEXEC : 0), 0);
    if (fd >= 0 &&
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        close_fd(&fd);
    return fd;
}

/* How long replies may take; 0: for ever. */
static void set_patience(int fd, time_t seconds)
{
    struct timeval limit = {.tv_sec = seconds};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static int greet(struct evtchnd_client *client, time_t patience, int page,
                 int doorbell, struct evtchnd_answer *hello)
{
    struct evtchnd_request request = {
        .type = EVTCHND_HELLO,
        .value = {EVTCHND_MAGIC, EVTCHND_VERSION},
    };
    int fd = connect_socket(client->cloexec);

    if (fd < 0)
        return -1;
    set_patience(fd, patience);
    pthread_mutex_lock(&client->lock);
    close_fd(&client->fd);
    client->fd = fd;
    pthread_mutex_unlock(&client->lock);
    if (!evtchnd_call(client, &request, page, doorbell, hello)) {
        set_patience(fd, 0);
        return 0;
    }
    pthread_mutex_lock(&client->lock);
    close_fd(&client->fd);
    pthread_mutex_unlock(&client->lock);
    return -1;
}

/* Its caller has other things to do than to wait for a new evtchnd. */
int evtchnd_reconnect(struct evtchnd_client *client, int page, int doorbell,
                      struct evtchnd_answer *hello)
{
    return greet(client, 1, page, doorbell, hello);
}

int evtchnd_connect(struct evtchnd_client *client, bool cloexec, int page,
                    int doorbell, struct evtchnd_answer *hello)
{
    pthread_mutex_init(&client->lock, NULL);
    client->fd = -1;
    client->cloexec = cloexec;
    if (!greet(client, 0, page, doorbell, hello))
        return 0;
    pthread_mutex_destroy(&client->lock);
    return -1;
}

void evtchnd_adopt(struct evtchnd_client *client)
{
    pthread_mutex_init(&client->lock, NULL);
    client->fd = -1;
    client->cloexec = false;
}

void evtchnd_forget(struct evtchnd_client *client)
{
    client->fd = -1;
    evtchnd_disconnect(client);
}

void evtchnd_disconnect(struct evtchnd_client *client)
{
    close_fd(&client->fd);
    pthread_mutex_destroy(&client->lock);
}
