/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the engine's parts share. A request goes down from engine.c to take.c and
 * io.c, and its answer from there to ring.c.
 */
#ifndef BLKBACKD_STATE_H
#define BLKBACKD_STATE_H

#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <time.h>

#include <xen/io/blkif.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#include "engine.h"
#include "libs/gnttab/granted.h"
#include "limit.h"
#include "request.h"

/* A request takes these one after the other, some of them. */
enum stage {
    STAGE_SYNC_BEFORE, /* what was written before is on the disk */
    STAGE_DATA,
    STAGE_SYNC_AFTER, /* and so is this */
};

/* A request from the ring until it is answered. */
struct work {
    struct iocb iocb;
    struct work *next; /* in the list of the free ones */
    struct blk_request request;
    enum stage stage;
    int64_t began_ns;
    bool is_redo; /* taken by one that was killed, and not begun again yet */
    struct granted granted; /* the segments' pages */
    char *bounce;
    uint32_t nr_iov;
    struct iovec iov[BLK_MAX_SEGMENTS];
    int discard_error;
};

/* A thread for what Linux does not do asynchronously. */
struct discarder {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t is_wanted;
    bool is_started, is_ending;
    struct work *todo, **todo_end, *done;
};

#define BLK_MAX_RING_SLOTS 512

/* The file of record.c; an entry belongs to the work of the same number. */
struct record_entry {
    uint32_t state;
    uint32_t index;  /* where in the ring it was taken */
    uint32_t answer; /* where its answer is, once it has one */
    uint8_t slot[sizeof(struct blkif_request)];
};

struct record {
    uint64_t key; /* the ring's; 0: nothing is in flight */
    uint32_t req_cons, rsp_prod;
    struct record_entry entry[];
};

struct blk_engine {
    xenevtchn_handle *xce;
    xengnttab_handle *xgt;
    int control;          /* eventfd: blk_kick() */
    bool is_kicked;       /* the same, for who does not sleep */
    int completions;      /* eventfd: aio */
    int64_t look_ns;      /* how long to look before it sleeps */
    int max_looking;      /* of all engines, at once for long */
    struct blk_exit exit; /* what blk_run() is to come back with */
    uint64_t told[4];     /* errnos that were told, a bit for each */
    bool is_shortage_told;
    struct blk_statistics statistics;

    /* As long as it is attached. */
    struct blk_ring ring;
    struct blk_volume volume;
    aio_context_t aio;
    evtchn_port_t port;
    struct blkif_sring *sring; /* shared: each field is read once */
    uint32_t nr_slots, slot_bytes;
    uint32_t req_cons;     /* requests taken */
    uint32_t rsp_prod;     /* responses written ... */
    uint32_t rsp_notified; /* ... and published */

    struct work *works, *free;
    uint32_t nr_busy; /* begun and not answered */
    int64_t now_ns;   /* as of the last look at ring or disk */
    /*
     * Requests wait in the ring for a limit, since and until about; 0: none.
     */
    int64_t throttled_ns, resume_ns;
    /*
     * The host is short of something that the next request takes, which stays
     * where it is, or of what io_submit(2) takes: until about then; 0: it is not.
     */
    int64_t retry_ns, resubmit_ns;
    struct record *record;
    uint32_t nr_redo; /* works that are to be begun again */
    /*
     * A request that cannot begin yet: a barrier while others are on their
     * way, or one that lacks a bounce buffer. Nothing is taken meanwhile, so
     * that there is never more than one.
     */
    struct work *held;
    bool is_barrier_busy; /* and nothing may begin before it ends */
    struct iocb **batch;  /* for the next io_submit(2) */
    uint32_t nr_batch;
    uint32_t nr_submitted; /* in the kernel */
    struct discarder discarder;
    char *bounces;
    uint32_t free_bounces; /* a bit for each */
};

#define COUNT(e, what, n)                                               \
    __atomic_store_n(&(e)->statistics.what, (e)->statistics.what + (n), \
                     __ATOMIC_RELAXED)

static inline int64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ring.c */
int ring_attach(struct blk_engine *e);
void ring_detach(struct blk_engine *e);
/* A slot's place: requests are copied from it, responses written to it. */
char *ring_slot(struct blk_engine *e, uint32_t index);
/* Where requests end; -EPROTO if the ring has no room for that many. */
int ring_producer(struct blk_engine *e, uint32_t *prod);
/* Answer and free a request. Once for each that was taken. */
void ring_answer(struct blk_engine *e, struct work *work, int16_t status);
/* Have the frontend see the answers. */
void ring_publish(struct blk_engine *e);

/* take.c */
/* Take what is there and begin it; -EPROTO: the indices cannot be. */
int take_requests(struct blk_engine *e);
/* Begin again what one that was killed has taken, as far as it can be now. */
void take_redo(struct blk_engine *e);
/* Are there requests that can be taken now? */
bool take_has_more(const struct blk_engine *e);
/* May the engine sleep? If so the frontend knows that it is to send events. */
bool take_is_quiet(struct blk_engine *e);

/* record.c */
int record_attach(struct blk_engine *e);
void record_detach(struct blk_engine *e);
/* Before a request is begun, and after its answer is in the ring. */
void record_take(struct blk_engine *e, const struct work *work,
                 const void *slot);
void record_answer(struct blk_engine *e, const struct work *work);
/* The oldest that is to be begun again, and its slot's copy; NULL: none. */
struct work *record_redo(struct blk_engine *e, void *slot);
/* It cannot be begun now: it is the oldest again. */
void record_redo_later(struct blk_engine *e, struct work *work);

/* memory.c */
bool memory_attach(struct blk_engine *e);
void memory_detach(struct blk_engine *e);
/* Of these two: 0, -EINVAL: a bad grant, -EAGAIN: the host is short of memory. */
/* Copy, once, the segments of an indirect request. */
int memory_fetch_segments(struct blk_engine *e, struct blk_request *request);
/* Map what a request reads or writes. */
int memory_map(struct blk_engine *e, struct work *work);
/* Is there a part that the disk cannot read or write where it is? */
bool memory_needs_bounce(const struct blk_engine *e, const struct work *work);
/* There is one free. What is to be written is in it afterwards. */
void memory_take_bounce(struct blk_engine *e, struct work *work);
void memory_copy_bounce(struct work *work, bool is_from_bounce);
void memory_let_go(struct blk_engine *e, struct work *work);

/* discard.c */
void discard_attach(struct blk_engine *e);
void discard_detach(struct blk_engine *e);
/* There is a thread for them; false: the host has none now. */
bool discard_prepare(struct blk_engine *e);
/* Have it done in its own time. */
void discard_begin(struct blk_engine *e, struct work *work);
/* All that have ended since, linked; their errors are in discard_error. */
struct work *discard_take_done(struct blk_engine *e);
bool discard_has_ended(const struct blk_engine *e);

/* io.c */
int io_attach(struct blk_engine *e);
void io_detach(struct blk_engine *e);
/*
 * Check a request that was decoded and map what it takes; *status is what to
 * answer if that is not OKAY. False: the host is short of something, and the
 * request is as if it had not been looked at.
 */
bool io_prepare(struct blk_engine *e, struct work *work, int16_t *status);
/* One that was prepared: it is begun or held. */
void io_begin(struct blk_engine *e, struct work *work);
/* Begin what was held if it can be now, and hand the batch to the kernel. */
void io_submit_batch(struct blk_engine *e);
/* Has something ended that io_reap() has not taken? No system call. */
bool io_has_ended(const struct blk_engine *e);
/* Take what has ended. */
void io_reap(struct blk_engine *e);
/* The same, and wait until something has if nothing had. */
void io_wait(struct blk_engine *e);

#endif
