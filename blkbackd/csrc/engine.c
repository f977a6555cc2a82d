/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine's life, and the loop that waits for frontend and disk. */
#define _GNU_SOURCE
#include "engine.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "state.h"

/*
 * To fall asleep and be woken takes longer than a look of this time, and
 * longer than many disks need. Of many requests on their way a sleep delays
 * few, of one all: then, and if the last sleep was as short, it is worth a
 * longer look.
 */
#define LOOK_NS 15000
#define LONG_LOOK_NS 100000
#define FEW_REQUESTS 4
/* As long as a look and being woken. */
#define SHORT_SLEEP_NS 300000

/* Engines that take a long look, so that half of the CPUs are left. */
static int nr_looking;

/* So long at most until a limit that was changed is looked at. */
#define THROTTLE_NS 100000000

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void blk_free(struct blk_engine *e)
{
    int saved = errno;

    if (!e)
        return;
    if (e->xgt)
        xengnttab_close(e->xgt);
    if (e->xce)
        xenevtchn_close(e->xce);
    close_if_open(e->completions);
    close_if_open(e->control);
    free(e);
    errno = saved;
}

struct blk_engine *blk_new(void)
{
    struct blk_engine *e = calloc(1, sizeof(*e));

    if (!e)
        return NULL;
    e->max_looking = (int)sysconf(_SC_NPROCESSORS_ONLN) / 2;
    e->control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->completions = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->control < 0 || e->completions < 0)
        goto fail;
    e->xce = xenevtchn_open(NULL, 0);
    if (!e->xce)
        goto fail;
    e->xgt = xengnttab_open(NULL, 0);
    if (!e->xgt)
        goto fail;
    return e;
fail:
    blk_free(e);
    return NULL;
}

int blk_attach(struct blk_engine *e, const struct blk_ring *ring,
               const struct blk_volume *volume)
{
    eventfd_t count;
    int rc;

    if (e->sring)
        return -EBUSY;
    /* A kick that found the last run at its end is not this one's. */
    __atomic_store_n(&e->is_kicked, false, __ATOMIC_RELAXED);
    eventfd_read(e->control, &count);
    e->ring = *ring;
    e->volume = *volume;
    e->now_ns = clock_ns();
    rc = ring_attach(e);
    if (rc)
        return rc;
    rc = io_attach(e);
    if (rc)
        goto fail_ring;
    rc = record_attach(e);
    if (rc)
        goto fail_io;
    e->held = NULL;
    e->is_barrier_busy = false;
    e->nr_busy = e->nr_batch = e->nr_submitted = 0;
    e->throttled_ns = e->resume_ns = e->retry_ns = e->resubmit_ns = 0;
    memset(&e->exit, 0, sizeof(e->exit));
    memset(e->told, 0, sizeof(e->told));
    e->is_shortage_told = false;
    return 0;
fail_io:
    io_detach(e);
fail_ring:
    ring_detach(e);
    return rc;
}

uint32_t blk_quiesce(struct blk_engine *e)
{
    if (!e->sring)
        return 0;
    while (e->nr_busy || e->held || (e->nr_redo && !e->retry_ns)) {
        take_redo(e);
        io_submit_batch(e);
        io_wait(e);
    }
    ring_publish(e);
    record_detach(e);
    io_detach(e);
    ring_detach(e);
    return e->nr_redo;
}

void blk_kick(struct blk_engine *e)
{
    __atomic_store_n(&e->is_kicked, true, __ATOMIC_RELEASE);
    eventfd_write(e->control, 1);
}

/* Take the event that is there, if one is; -errno. */
static int take_event(struct blk_engine *e)
{
    int port = xenevtchn_pending(e->xce);

    /* Unmasked before the ring is looked at: no event is lost. */
    if (port < 0 || xenevtchn_unmask(e->xce, (evtchn_port_t)port))
        return -errno;
    return 0;
}

/* The earlier of two moments; 0: there is none. */
static int64_t first_of(int64_t a, int64_t b)
{
    return a && (!b || a < b) ? a : b;
}

/* How long to sleep at most; NULL: until something comes. */
static struct timespec *timeout(const struct blk_engine *e, bool may_sleep,
                                struct timespec *out)
{
    int64_t left = 0, until = first_of(e->resume_ns, e->retry_ns);

    until = first_of(until, e->resubmit_ns);
    if (may_sleep) {
        if (!until)
            return NULL;
        left = until - clock_ns();
        left = left < 0 ? 0 : left < THROTTLE_NS ? left : THROTTLE_NS;
    }
    *out = (struct timespec){.tv_nsec = left};
    return out;
}

/*
 * Sleep, if it may, until frontend, disk or blk_kick() have something; -errno.
 * Only a sleeper minds the completions' eventfd: what it says of those that
 * io_reap() has found by itself is old.
 */
static int wait_events(struct blk_engine *e, bool may_sleep)
{
    struct pollfd fds[] = {
        {.fd = xenevtchn_fd(e->xce), .events = POLLIN},
        {.fd = e->control, .events = POLLIN},
        {.fd = e->completions, .events = POLLIN},
    };
    struct timespec limit;
    eventfd_t count;
    int64_t began = clock_ns();

    if (may_sleep && e->nr_busy) {
        eventfd_read(e->completions, &count);
        may_sleep = !io_has_ended(e);
    }
    if (may_sleep)
        COUNT(e, wakes, 1);
    if (ppoll(fds, e->nr_busy ? 3 : 2, timeout(e, may_sleep, &limit), NULL) < 0)
        return errno == EINTR ? 0 : -errno;
    if (may_sleep)
        e->look_ns =
            clock_ns() - began < SHORT_SLEEP_NS ? LONG_LOOK_NS : LOOK_NS;
    if (fds[1].revents && !e->exit.why) {
        __atomic_store_n(&e->is_kicked, false, __ATOMIC_RELAXED);
        eventfd_read(e->control, &count);
        e->exit.why = BLK_EXIT_KICKED;
    }
    return fds[0].revents ? take_event(e) : 0;
}

/* Look for so long whether something comes. */
static bool comes_within(struct blk_engine *e, int64_t look_ns)
{
    int64_t end = clock_ns() + look_ns;

    do {
        if (__atomic_load_n(&e->is_kicked, __ATOMIC_ACQUIRE))
            return false;
        if (io_has_ended(e) || take_has_more(e))
            return true;
        __builtin_ia32_pause();
    } while (clock_ns() < end);
    return false;
}

static bool comes_soon(struct blk_engine *e)
{
    bool is_there = false;

    if (e->look_ns == LONG_LOOK_NS && e->nr_submitted <= FEW_REQUESTS) {
        bool is_free = __atomic_fetch_add(&nr_looking, 1, __ATOMIC_RELAXED) <
                       e->max_looking;

        if (is_free)
            is_there = comes_within(e, LONG_LOOK_NS);
        __atomic_fetch_sub(&nr_looking, 1, __ATOMIC_RELAXED);
        if (is_free)
            return is_there;
    }
    return e->nr_submitted && comes_within(e, LOOK_NS);
}

int blk_run(struct blk_engine *e, struct blk_exit *out)
{
    int rc = 0;

    while (!rc && !e->exit.why) {
        /* The frontend is at work on these while we are on its next. */
        ring_publish(e);
        if (take_requests(e)) {
            e->exit.why = BLK_EXIT_BROKEN_RING;
            break;
        }
        io_submit_batch(e);
        ring_publish(e);
        if (e->exit.why)
            break;
        if (!comes_soon(e))
            rc = wait_events(e, take_is_quiet(e));
        io_reap(e);
    }
    *out = e->exit;
    memset(&e->exit, 0, sizeof(e->exit));
    return rc;
}

void blk_resize(struct blk_engine *e, uint64_t nr_sectors)
{
    __atomic_store_n(&e->volume.nr_sectors, nr_sectors, __ATOMIC_RELAXED);
}

void blk_statistics(const struct blk_engine *e, struct blk_statistics *out)
{
    const uint64_t *from = (const uint64_t *)&e->statistics;
    uint64_t *to = (uint64_t *)out;

    for (size_t i = 0; i < sizeof(*out) / sizeof(*to); i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
