/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libxenevtchn with a real evtchnd behind it: see test_libs.py. */
#include "tests/native/harness.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xen/xen.h>
#include <xenevtchn.h>

static bool is_readable(xenevtchn_handle *xce)
{
    struct pollfd fd = {.fd = xenevtchn_fd(xce), .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

/* Two handles with one channel between them, no event on its way. */
struct pair {
    xenevtchn_handle *one, *other;
    int port, remote;
};

static void settle(xenevtchn_handle *xce)
{
    while (is_readable(xce))
        CHECK_EQ(xenevtchn_unmask(xce, (uint32_t)xenevtchn_pending(xce)), 0);
}

static struct pair open_pair(void)
{
    struct pair p;

    p.one = xenevtchn_open(NULL, 0);
    p.other = xenevtchn_open(NULL, 0);
    CHECK(p.one && p.other);
    if (!p.one || !p.other)
        exit(1);
    p.port = xenevtchn_bind_unbound_port(p.one, 0);
    p.remote = xenevtchn_bind_interdomain(p.other, 0, (uint32_t)p.port);
    CHECK(p.port > 0 && p.remote > 0);
    settle(p.one);
    settle(p.other);
    return p;
}

static void close_pair(struct pair *p)
{
    CHECK_EQ(xenevtchn_close(p->one), 0);
    CHECK_EQ(xenevtchn_close(p->other), 0);
}

#define CHECK_FAILS(call, number)  \
    do {                           \
        errno = 0;                 \
        CHECK_EQ(call, -1);        \
        CHECK_EQ(errno, (number)); \
    } while (0)

TEST(errors_are_xens)
{
    struct pair p = open_pair();
    int virq = xenevtchn_bind_virq(p.one, VIRQ_DOM_EXC);

    CHECK(virq > 0);
    CHECK_FAILS(xenevtchn_bind_virq(p.other, VIRQ_DOM_EXC), EEXIST);
    CHECK_FAILS(xenevtchn_bind_virq(p.other, 24), EINVAL);
    CHECK_FAILS(xenevtchn_bind_interdomain(p.one, 9, 1), ESRCH);
    CHECK_FAILS(xenevtchn_bind_interdomain(p.one, 0, 131071), EINVAL);
    CHECK_FAILS(xenevtchn_bind_interdomain(p.one, 0, (uint32_t)p.port), EINVAL);
    CHECK_FAILS(xenevtchn_notify(p.one, (uint32_t)p.remote), ENOTCONN);
    CHECK_FAILS(xenevtchn_notify(p.one, 1U << 20), EINVAL);
    CHECK_FAILS(xenevtchn_notify(p.one, (uint32_t)virq), EINVAL);
    CHECK_FAILS(xenevtchn_unbind(p.one, (uint32_t)p.remote), ENOTCONN);
    CHECK_FAILS(xenevtchn_unmask(p.one, 1U << 20), EINVAL);
    CHECK_EQ(xenevtchn_unmask(p.one, (uint32_t)p.remote), 0);
    CHECK_FAILS(xenevtchn_restrict(p.one, 0), EINVAL);
    errno = 0;
    CHECK(!xenevtchn_open(NULL, 2) && errno == EINVAL);
    CHECK(!xenevtchn_fdopen(NULL, xenevtchn_fd(p.one), 1) && errno == EINVAL);
    CHECK(!xenevtchn_fdopen(NULL, 0, 0) && errno == EINVAL);
    CHECK(!xenevtchn_fdopen(NULL, 9999, 0) && errno == EBADF);
    close_pair(&p);
    CHECK_EQ(xenevtchn_close(NULL), 0);
}

TEST(a_new_interdomain_port_is_pending_at_once)
{
    struct pair p = open_pair();
    int extra = xenevtchn_bind_unbound_port(p.one, 0), bound;

    CHECK(!is_readable(p.other));
    bound = xenevtchn_bind_interdomain(p.other, 0, (uint32_t)extra);
    CHECK(is_readable(p.other));
    CHECK_EQ(xenevtchn_pending(p.other), bound);
    CHECK(!is_readable(p.other));
    close_pair(&p);
}

TEST(a_masked_port_is_silent_and_remembers)
{
    struct pair p = open_pair();

    CHECK_EQ(xenevtchn_notify(p.one, (uint32_t)p.port), 0);
    CHECK_EQ(xenevtchn_pending(p.other), p.remote);
    CHECK_EQ(xenevtchn_notify(p.one, (uint32_t)p.port), 0);
    CHECK(!is_readable(p.other));
    CHECK_EQ(xenevtchn_unmask(p.other, (uint32_t)p.remote), 0);
    CHECK(is_readable(p.other));
    CHECK_EQ(xenevtchn_pending(p.other), p.remote);
    CHECK_EQ(xenevtchn_unmask(p.other, (uint32_t)p.remote), 0);
    CHECK(!is_readable(p.other));
    close_pair(&p);
}

TEST(what_was_sent_before_the_end_is_told_once)
{
    struct pair p = open_pair();

    CHECK_EQ(xenevtchn_notify(p.one, (uint32_t)p.port), 0);
    CHECK(is_readable(p.other));
    CHECK_EQ(xenevtchn_unbind(p.other, (uint32_t)p.remote), 0);
    /* Who saw POLLIN before must not block now. */
    CHECK(is_readable(p.other));
    CHECK_EQ(xenevtchn_pending(p.other), p.remote);
    CHECK(!is_readable(p.other));
    CHECK_EQ(xenevtchn_notify(p.one, (uint32_t)p.port), 0);
    close_pair(&p);
}

TEST(the_next_peer_is_found)
{
    struct pair p = open_pair();
    xenevtchn_handle *third = xenevtchn_open(NULL, 0);
    int port;

    CHECK_EQ(xenevtchn_unbind(p.other, (uint32_t)p.remote), 0);
    port = xenevtchn_bind_interdomain(third, 0, (uint32_t)p.port);
    settle(third);
    CHECK_EQ(xenevtchn_notify(p.one, (uint32_t)p.port), 0);
    CHECK_EQ(xenevtchn_pending(third), port);
    CHECK(!is_readable(p.other));
    /* A peer that goes without a word. */
    CHECK_EQ(xenevtchn_close(third), 0);
    CHECK_EQ(xenevtchn_notify(p.one, (uint32_t)p.port), 0);
    close_pair(&p);
}

TEST(a_child_may_close_only)
{
    struct pair p = open_pair();
    pid_t child = fork();
    int status;

    if (!child) {
        xenevtchn_close(p.one);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(xenevtchn_notify(p.other, (uint32_t)p.remote), 0);
    CHECK_EQ(xenevtchn_pending(p.one), p.port);
    close_pair(&p);
}

/* What a program finds that was executed in this one's place. */
static int adopted(int fd, struct pair *p)
{
    xenevtchn_handle *xce = xenevtchn_fdopen(NULL, fd, 0);

    if (!xce || xenevtchn_fd(xce) != fd)
        return 1;
    /* The event that nobody had taken yet, and no second one. */
    if (!is_readable(xce) || xenevtchn_pending(xce) != p->port ||
        is_readable(xce) || xenevtchn_unmask(xce, (uint32_t)p->port) ||
        is_readable(xce))
        return 2;
    for (int i = 0; i < 3; i++) {
        if (xenevtchn_notify(xce, (uint32_t)p->port) ||
            xenevtchn_pending(p->other) != p->remote ||
            xenevtchn_unmask(p->other, (uint32_t)p->remote) ||
            xenevtchn_notify(p->other, (uint32_t)p->remote) ||
            xenevtchn_pending(xce) != p->port ||
            xenevtchn_unmask(xce, (uint32_t)p->port))
            return 3;
    }
    if (xenevtchn_bind_unbound_port(xce, 0) <= 0 ||
        xenevtchn_unbind(xce, (uint32_t)p->port))
        return 4;
    return xenevtchn_close(xce) ? 5 : 0;
}

TEST(a_descriptor_is_the_whole_handle)
{
    struct pair p = open_pair();
    int status;
    pid_t child;

    CHECK_EQ(xenevtchn_notify(p.other, (uint32_t)p.remote), 0);
    child = fork();
    if (!child)
        _exit(adopted(xenevtchn_fd(p.one), &p));
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    close_pair(&p);
}

TEST(a_port_without_room_for_its_descriptors_is_given_back)
{
    struct pair p = open_pair();
    int before = xenevtchn_bind_unbound_port(p.one, 0), free_fd = dup(0);
    struct rlimit old, tight;

    close(free_fd);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    for (rlim_t room = 0; room < 2; room++) {
        tight = (struct rlimit){(rlim_t)free_fd + room, old.rlim_max};
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
        CHECK_FAILS(xenevtchn_bind_unbound_port(p.one, 0), EMFILE);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    }
    CHECK_EQ(xenevtchn_bind_unbound_port(p.one, 0), before + 1);
    close_pair(&p);
}

#define NR_CHANNELS 70 /* more than one word of bits, and than one batch */

/*
 * Any order of operations on one receiver: what was sent is told, what is
 * masked is not, and POLLIN is as good as its word. What was sent twice before
 * it was told may be told twice.
 */
TEST(any_order)
{
    xenevtchn_handle *from = xenevtchn_open(NULL, 0);
    xenevtchn_handle *to = xenevtchn_open(NULL, 0);
    int port[NR_CHANNELS], remote[NR_CHANNELS];
    bool sent[NR_CHANNELS], twice[NR_CHANNELS], masked[NR_CHANNELS];
    uint64_t seed = 88172645463325252;
    int got, i;

    for (i = 0; i < NR_CHANNELS; i++) {
        port[i] = xenevtchn_bind_unbound_port(from, 0);
        remote[i] = xenevtchn_bind_interdomain(to, 0, (uint32_t)port[i]);
        sent[i] = true;
        twice[i] = masked[i] = false;
    }
    for (int step = 0; step < 20000; step++) {
        uint64_t r = random64(&seed);
        bool must = false, may = false;

        i = (int)((r >> 8) % NR_CHANNELS);
        if (r & 1) {
            CHECK_EQ(xenevtchn_notify(from, (uint32_t)port[i]), 0);
            twice[i] |= sent[i];
            sent[i] = true;
        } else if (r & 2) {
            CHECK_EQ(xenevtchn_unmask(to, (uint32_t)remote[i]), 0);
            masked[i] = false;
        } else if (is_readable(to)) {
            got = xenevtchn_pending(to);
            for (i = 0; i < NR_CHANNELS && remote[i] != got; i++)
                ;
            CHECK(i < NR_CHANNELS && (sent[i] || twice[i]) && !masked[i]);
            if (i == NR_CHANNELS)
                break;
            twice[i] &= sent[i];
            sent[i] = false;
            masked[i] = true;
        }
        for (i = 0; i < NR_CHANNELS; i++)
            must |= sent[i] && !masked[i], may |= twice[i] && !masked[i];
        CHECK(is_readable(to) ? must || may : !must);
        if (failures)
            break;
    }
    CHECK_EQ(xenevtchn_close(from), 0);
    CHECK_EQ(xenevtchn_close(to), 0);
}

#define NR_THREADS 4
#define NR_ROUNDS 300

struct work {
    struct pair pair;
    uint32_t sent, seen;
};

static void *send_all(void *arg)
{
    struct work *work = arg;

    for (int i = 0; i < NR_ROUNDS; i++) {
        __atomic_add_fetch(&work->sent, 1, __ATOMIC_SEQ_CST);
        xenevtchn_notify(work->pair.one, (uint32_t)work->pair.port);
    }
    return NULL;
}

static void *receive_all(void *arg)
{
    struct work *work = arg;

    while (work->seen != NR_ROUNDS) {
        int port = xenevtchn_pending(work->pair.other);

        xenevtchn_unmask(work->pair.other, (uint32_t)port);
        work->seen = __atomic_load_n(&work->sent, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

TEST(several_handles_in_several_threads)
{
    static struct work work[NR_THREADS];
    pthread_t threads[2 * NR_THREADS];

    for (int i = 0; i < NR_THREADS; i++) {
        work[i].pair = open_pair();
        pthread_create(&threads[2 * i], NULL, receive_all, &work[i]);
        pthread_create(&threads[2 * i + 1], NULL, send_all, &work[i]);
    }
    /* No event is lost, or its receiver would never end. */
    for (int i = 0; i < 2 * NR_THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < NR_THREADS; i++)
        close_pair(&work[i].pair);
}

static void *bind_and_unbind(void *arg)
{
    struct pair *p = arg;

    for (int i = 0; i < 100; i++) {
        int port = xenevtchn_bind_unbound_port(p->one, 0);

        CHECK(port > 0);
        xenevtchn_notify(p->one, (uint32_t)port);
        CHECK_EQ(xenevtchn_unbind(p->one, (uint32_t)port), 0);
    }
    return NULL;
}

TEST(one_handle_in_several_threads)
{
    static struct work work;
    pthread_t threads[2 + NR_THREADS];

    work.pair = open_pair();
    pthread_create(&threads[0], NULL, receive_all, &work);
    pthread_create(&threads[1], NULL, send_all, &work);
    for (int i = 0; i < NR_THREADS; i++)
        pthread_create(&threads[2 + i], NULL, bind_and_unbind, &work.pair);
    for (int i = 0; i < 2 + NR_THREADS; i++)
        pthread_join(threads[i], NULL);
    close_pair(&work.pair);
}
