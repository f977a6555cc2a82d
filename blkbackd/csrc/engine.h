/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block engine: serves one ring of one frontend from one volume.
 * Read by cffi as well.
 *
 * Python starts a thread that calls blk_run(); that returns when there is
 * something to be told, and is called again. blk_kick(), blk_resize(),
 * blk_statistics() and blk_limiter_set() may be called from any thread, the
 * others only while blk_run() is not running. Functions return 0 or a negative errno.
 */
#ifndef BLKBACKD_ENGINE_H
#define BLKBACKD_ENGINE_H

#ifndef ABI_NO_INCLUDES
#include <stdint.h>
#endif

#define BLK_ABI_64 0
#define BLK_ABI_32 1

#define BLK_MAX_RING_ORDER 4
#define BLK_MAX_RING_PAGES 16
#define BLK_RECORD_BYTES 73728
/* Of an indirect request: 1 MiB. */
#define BLK_MAX_SEGMENTS 256
#define BLK_LATENCY_BUCKETS 22

/* Why blk_run() came back. */
#define BLK_EXIT_KICKED 1
/* The frontend's indices claim more requests than the ring can hold. */
#define BLK_EXIT_BROKEN_RING 2
/* The volume failed in a new way; the request was answered with an error. */
#define BLK_EXIT_VOLUME_ERROR 3
/* The host is short of memory, locks or threads: requests wait. Told once. */
#define BLK_EXIT_SHORTAGE 4

struct blk_limiter;

struct blk_ring {
    uint32_t domid;
    uint32_t port; /* the frontend's event channel */
    uint32_t abi;  /* BLK_ABI_* */
    uint32_t nr_pages;
    uint32_t ref[BLK_MAX_RING_PAGES];
    /*
     * A file of BLK_RECORD_BYTES that says after a crash what was in flight,
     * the caller's while attached; 0: none. The key is never 0 and tells this
     * ring from any that came before it.
     */
    int32_t record_fd;
    uint64_t record_key;
};

struct blk_volume {
    int fd; /* the caller's, for as long as the engine is attached */
    uint32_t block_bytes;  /* what the disk can read or write at least */
    uint32_t memory_align; /* of buffers, for O_DIRECT; 1: any */
    uint8_t is_read_only, is_device, can_discard, can_erase_securely;
    uint64_t nr_sectors;         /* of 512 bytes */
    struct blk_limiter *limiter; /* the caller's, for all rings; NULL: none */
};

/* 0: no limit. A burst is what may come at once after a pause. */
struct blk_limits {
    uint64_t requests_per_s, requests_burst;
    uint64_t bytes_per_s, bytes_burst;
};

struct blk_exit {
    uint32_t why;  /* BLK_EXIT_* */
    int32_t error; /* VOLUME_ERROR: an errno; each is told once */
    uint64_t sector;
};

/* Since blk_new(). All of it is uint64_t. */
struct blk_statistics {
    uint64_t reads, writes, flushes, discards; /* that succeeded */
    uint64_t read_sectors, write_sectors, discard_sectors;
    uint64_t errors;           /* the volume failed */
    uint64_t refused;          /* the frontend asked for what cannot be */
    uint64_t bounced;          /* went through a buffer of our own */
    uint64_t wakes;            /* blk_run() slept and was woken */
    uint64_t notifies;         /* events sent */
    uint64_t depth, max_depth; /* begun and not answered */
    uint64_t throttled, throttled_us; /* times that a limit bit, how long */
    uint64_t shortages; /* times that the host lacked what a request takes */
    uint64_t read_us, write_us, flush_us; /* from taken to answered */
    /* Of these the number below 2^i us; the last: all others. */
    uint64_t read_latency[BLK_LATENCY_BUCKETS];
    uint64_t write_latency[BLK_LATENCY_BUCKETS];
    uint64_t flush_latency[BLK_LATENCY_BUCKETS];
};

struct blk_engine;

/* NULL and errno on failure. */
struct blk_engine *blk_new(void);
/*
 * Map the ring and bind its event channel. On failure nothing is left behind:
 * EINVAL the ring's description or its grants are wrong, others as
 * xenevtchn_bind_interdomain() says.
 */
int blk_attach(struct blk_engine *e, const struct blk_ring *ring,
               const struct blk_volume *volume);
/* Serve; 0 and *out, or -errno if nothing can be served any more. */
int blk_run(struct blk_engine *e, struct blk_exit *out);
/*
 * Make blk_run() come back, now or when it is next called; blk_attach() forgets
 * it.
 */
void blk_kick(struct blk_engine *e);
/*
 * Finish and answer what has been taken from the ring, then let go of ring,
 * channel and volume. The engine can be attached again. How many requests are
 * left on record, because the host is short of what they take.
 */
uint32_t blk_quiesce(struct blk_engine *e);
/* The volume has become larger or smaller. */
void blk_resize(struct blk_engine *e, uint64_t nr_sectors);
void blk_statistics(const struct blk_engine *e, struct blk_statistics *out);
/* Only what is not attached. */
void blk_free(struct blk_engine *e);

/* Without limits; NULL and errno. */
struct blk_limiter *blk_limiter_new(void);
void blk_limiter_set(struct blk_limiter *limiter, const struct blk_limits *now);
/* When no volume has it. */
void blk_limiter_free(struct blk_limiter *limiter);

#endif
