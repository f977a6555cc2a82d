/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a request to the disk and back: Linux aio. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "state.h"

#define AIO_RING_MAGIC 0xa10a10a1U
/*
 * So many at a time: of more, Linux gives the disk nothing before it has all
 * of them (fs/aio.c, AIO_PLUG_THRESHOLD), and the disk idles meanwhile.
 */
#define SUBMIT_AT_ONCE 2U
/* Of writes the disk has more to gain by a few that come together. */
#define SUBMIT_WRITES 4U

/* What the kernel maps at the context, since 2.6 (fs/aio.c). */
struct aio_ring {
    uint32_t id, nr, head, tail;
    uint32_t magic, compat_features, incompat_features, header_bytes;
    struct io_event event[];
};

static struct aio_ring *ring_of(const struct blk_engine *e)
{
    return (struct aio_ring *)e->aio;
}

int io_attach(struct blk_engine *e)
{
    int rc = -ENOMEM;

    e->works = calloc(e->nr_slots, sizeof(*e->works));
    e->batch = calloc(e->nr_slots, sizeof(struct iocb *));
    if (!e->works || !e->batch || !memory_attach(e))
        goto fail_free;
    e->aio = 0;
    if (syscall(SYS_io_setup, e->nr_slots, &e->aio)) {
        rc = -errno;
        goto fail_detach;
    }
    /* Another kernel's; it has been this one for twenty years. */
    if (ring_of(e)->magic != AIO_RING_MAGIC || ring_of(e)->incompat_features) {
        rc = -ENOSYS;
        goto fail_destroy;
    }
    discard_attach(e);
    e->free = NULL;
    for (uint32_t i = e->nr_slots; i--;) {
        e->works[i].next = e->free;
        e->free = &e->works[i];
    }
    return 0;
fail_destroy:
    syscall(SYS_io_destroy, e->aio);
fail_detach:
    memory_detach(e);
fail_free:
    free(e->batch);
    free(e->works);
    return rc;
}

void io_detach(struct blk_engine *e)
{
    discard_detach(e);
    syscall(SYS_io_destroy, e->aio);
    memory_detach(e);
    free(e->batch);
    free(e->works);
    e->works = NULL;
}

/* --- the disk -------------------------------------------------------------- */

static size_t bytes_of(const struct work *work)
{
    return work->request.nr_sectors * BLK_SECTOR_BYTES;
}

/* Put a request's present stage into the batch. */
static void enqueue(struct blk_engine *e, struct work *work)
{
    bool is_read = work->request.op == BLKIF_OP_READ;
    struct iocb *iocb = &work->iocb;

    *iocb = (struct iocb){
        .aio_data = (uintptr_t)work,
        .aio_fildes = (uint32_t)e->volume.fd,
        .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = (uint32_t)e->completions,
        .aio_lio_opcode = IOCB_CMD_FDSYNC,
    };
    if (work->stage == STAGE_DATA) {
        iocb->aio_offset = (int64_t)(work->request.sector * BLK_SECTOR_BYTES);
        if (work->bounce) {
            iocb->aio_lio_opcode = is_read ? IOCB_CMD_PREAD : IOCB_CMD_PWRITE;
            iocb->aio_buf = (uintptr_t)work->bounce;
            iocb->aio_nbytes = bytes_of(work);
        } else {
            iocb->aio_lio_opcode = is_read ? IOCB_CMD_PREADV : IOCB_CMD_PWRITEV;
            iocb->aio_buf = (uintptr_t)work->iov;
            iocb->aio_nbytes = work->nr_iov;
        }
    }
    e->batch[e->nr_batch++] = iocb;
}

/* Each errno is told once: a dead disk must not keep Python busy. */
static void tell(struct blk_engine *e, const struct work *work, int error)
{
    uint64_t *word = &e->told[error / 64 % 4], bit = 1UL << error % 64;

    COUNT(e, errors, 1);
    if (*word & bit || e->exit.why)
        return;
    *word |= bit;
    e->exit =
        (struct blk_exit){BLK_EXIT_VOLUME_ERROR, error, work->request.sector};
}

static void count_success(struct blk_engine *e, const struct work *work)
{
    uint64_t nr_sectors = work->request.nr_sectors;

    switch (work->request.op) {
    case BLKIF_OP_READ:
        COUNT(e, reads, 1);
        COUNT(e, read_sectors, nr_sectors);
        break;
    case BLKIF_OP_DISCARD:
        COUNT(e, discards, 1);
        COUNT(e, discard_sectors, nr_sectors);
        break;
    case BLKIF_OP_WRITE_BARRIER:
    case BLKIF_OP_FLUSH_DISKCACHE:
        COUNT(e, flushes, 1);
        if (!work->request.nr_segments)
            break;
        __attribute__((fallthrough));
    default:
        COUNT(e, writes, 1);
        COUNT(e, write_sectors, nr_sectors);
    }
}

static void add_latency(struct blk_engine *e, uint64_t *sum, uint64_t *buckets,
                        const struct work *work)
{
    uint64_t us = (uint64_t)(e->now_ns - work->began_ns) / 1000;
    unsigned int i = us ? 64U - (unsigned int)__builtin_clzll(us) : 0;

    if (i >= BLK_LATENCY_BUCKETS)
        i = BLK_LATENCY_BUCKETS - 1;
    __atomic_store_n(sum, *sum + us, __ATOMIC_RELAXED);
    __atomic_store_n(&buckets[i], buckets[i] + 1, __ATOMIC_RELAXED);
}

static void count_latency(struct blk_engine *e, const struct work *work)
{
    struct blk_statistics *s = &e->statistics;

    if (work->request.op == BLKIF_OP_READ)
        add_latency(e, &s->read_us, s->read_latency, work);
    else if (work->request.op == BLKIF_OP_WRITE)
        add_latency(e, &s->write_us, s->write_latency, work);
    else
        add_latency(e, &s->flush_us, s->flush_latency, work);
}

/* The end of a request that was begun; error is an errno or 0. */
static void finish(struct blk_engine *e, struct work *work, int error)
{
    int16_t status = BLKIF_RSP_OKAY;

    if (error == EOPNOTSUPP) {
        status = BLKIF_RSP_EOPNOTSUPP;
    } else if (error) {
        status = BLKIF_RSP_ERROR;
        tell(e, work, error);
    } else {
        count_success(e, work);
    }
    if (work->request.op != BLKIF_OP_DISCARD)
        count_latency(e, work);
    if (work->request.op == BLKIF_OP_WRITE_BARRIER)
        e->is_barrier_busy = false;
    memory_let_go(e, work);
    e->nr_busy--;
    COUNT(e, depth, -1);
    ring_answer(e, work, status);
}

static void complete(struct blk_engine *e, struct work *work, int64_t result)
{
    /* What it needs in the kernel, not what the disk says. */
    if (result == -ENOMEM || result == -EAGAIN) {
        enqueue(e, work);
        e->resubmit_ns = e->now_ns + GRANTED_RETRY_NS;
        return;
    }
    if (result < 0) {
        finish(e, work, (int)-result);
        return;
    }
    if (work->stage == STAGE_DATA) {
        /* The volume has become shorter than it was, or is full. */
        if ((uint64_t)result != bytes_of(work)) {
            bool is_read = work->request.op == BLKIF_OP_READ;

            finish(e, work, is_read ? EIO : ENOSPC);
            return;
        }
        if (work->bounce && work->request.op == BLKIF_OP_READ)
            memory_copy_bounce(work, true);
        if (work->request.op == BLKIF_OP_READ ||
            work->request.op == BLKIF_OP_WRITE) {
            finish(e, work, 0);
            return;
        }
    }
    if (work->stage == STAGE_SYNC_AFTER) {
        finish(e, work, 0);
        return;
    }
    work->stage++;
    enqueue(e, work);
}

static uint32_t at_once(const struct iocb *first)
{
    bool is_write = first->aio_lio_opcode == IOCB_CMD_PWRITEV ||
                    first->aio_lio_opcode == IOCB_CMD_PWRITE;

    return is_write ? SUBMIT_WRITES : SUBMIT_AT_ONCE;
}

static void submit(struct blk_engine *e)
{
    uint32_t done = 0;

    if (e->resubmit_ns && clock_ns() < e->resubmit_ns)
        return;
    e->resubmit_ns = 0;
    while (done < e->nr_batch) {
        uint32_t left = e->nr_batch - done, most = at_once(e->batch[done]);
        long n = syscall(SYS_io_submit, e->aio,
                         (long)(left < most ? left : most), e->batch + done);

        if (n > 0) {
            done += (uint32_t)n;
            e->nr_submitted += (uint32_t)n;
            continue;
        }
        /* The kernel has no room: when something has ended, or later, again. */
        if (errno == EAGAIN || errno == ENOMEM) {
            if (!e->nr_submitted)
                e->resubmit_ns = clock_ns() + GRANTED_RETRY_NS;
            break;
        }
        finish(e, (struct work *)(uintptr_t)e->batch[done]->aio_data, errno);
        done++;
    }
    e->nr_batch -= done;
    memmove(e->batch, e->batch + done, e->nr_batch * sizeof(struct iocb *));
}

/* --- begin ------------------------------------------------------------------ */

/* Is there anything that this request has to wait for? */
static bool must_hold(const struct blk_engine *e, const struct work *work)
{
    if (work->request.op == BLKIF_OP_WRITE_BARRIER && e->nr_busy)
        return true;
    return granted_is_mapped(&work->granted) && !e->free_bounces &&
           memory_needs_bounce(e, work);
}

/* A discard moves none, whatever its length. */
static uint64_t limited_bytes(const struct work *work)
{
    return work->request.op == BLKIF_OP_DISCARD ? 0 : bytes_of(work);
}

static void begin(struct blk_engine *e, struct work *work)
{
    const struct blk_request *request = &work->request;

    e->nr_busy++;
    COUNT(e, depth, 1);
    if (e->nr_busy > e->statistics.max_depth)
        COUNT(e, max_depth, 1);
    if (e->volume.limiter)
        limit_draw_bytes(e->volume.limiter, e->now_ns, limited_bytes(work));
    if (granted_is_mapped(&work->granted) && memory_needs_bounce(e, work))
        memory_take_bounce(e, work);
    switch (request->op) {
    case BLKIF_OP_DISCARD:
        discard_begin(e, work);
        return;
    case BLKIF_OP_WRITE_BARRIER:
        e->is_barrier_busy = true;
        __attribute__((fallthrough));
    case BLKIF_OP_FLUSH_DISKCACHE:
        work->stage =
            request->nr_segments ? STAGE_SYNC_BEFORE : STAGE_SYNC_AFTER;
        break;
    default:
        work->stage = STAGE_DATA;
    }
    enqueue(e, work);
}

bool io_prepare(struct blk_engine *e, struct work *work, int16_t *status)
{
    struct blk_request *request = &work->request;
    int rc = 0;

    if (request->is_indirect)
        rc = memory_fetch_segments(e, request);
    *status = rc ? BLKIF_RSP_ERROR : blk_request_check(request, &e->volume);
    if (*status != BLKIF_RSP_OKAY)
        return rc != -EAGAIN;
    if (request->op == BLKIF_OP_DISCARD)
        return discard_prepare(e);
    if (!request->nr_segments)
        return true;
    rc = memory_map(e, work);
    if (rc)
        *status = BLKIF_RSP_ERROR;
    return rc != -EAGAIN;
}

void io_begin(struct blk_engine *e, struct work *work)
{
    if (must_hold(e, work))
        e->held = work;
    else
        begin(e, work);
}

void io_submit_batch(struct blk_engine *e)
{
    struct work *held;

    do {
        held = e->held;
        if (held && !must_hold(e, held)) {
            e->held = NULL;
            begin(e, held);
        }
        submit(e);
        /* What the kernel refused has ended, and may have been in its way. */
    } while (e->held && !must_hold(e, e->held));
}

static void take_event(struct blk_engine *e, const struct io_event *event)
{
    e->nr_submitted--;
    complete(e, (struct work *)(uintptr_t)event->data, event->res);
}

void io_reap(struct blk_engine *e)
{
    struct aio_ring *ring = ring_of(e);
    struct work *work, *next;
    uint32_t head, tail;

    if (!io_has_ended(e))
        return;
    e->now_ns = clock_ns();
    for (work = discard_take_done(e); work; work = next) {
        next = work->next;
        finish(e, work, work->discard_error);
    }
    head = ring->head; /* only we move it */
    tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
    while (head != tail) {
        struct io_event event = ring->event[head];

        head = (head + 1) % ring->nr;
        __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
        take_event(e, &event);
    }
}

void io_wait(struct blk_engine *e)
{
    struct pollfd fd = {.fd = e->completions, .events = POLLIN};
    eventfd_t count;

    eventfd_read(e->completions, &count);
    if (e->nr_busy && !io_has_ended(e))
        poll(&fd, 1, e->resubmit_ns ? GRANTED_RETRY_NS / 1000000 : -1);
    io_reap(e);
}

bool io_has_ended(const struct blk_engine *e)
{
    const struct aio_ring *ring = ring_of(e);

    return discard_has_ended(e) ||
           __atomic_load_n(&ring->tail, __ATOMIC_RELAXED) !=
               __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
}
