/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Discards. aio has none, and a disk may take seconds for one: a thread of
 * their own does them one by one, so that reads and writes go on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "state.h"

static int discard(const struct blk_volume *volume,
                   const struct blk_request *request)
{
    uint64_t range[2] = {request->sector * BLK_SECTOR_BYTES,
                         request->nr_sectors * BLK_SECTOR_BYTES};
    int rc;

    if (!request->nr_sectors)
        return 0;
    if (volume->is_device)
        rc = ioctl(volume->fd, request->is_secure ? BLKSECDISCARD : BLKDISCARD,
                   range);
    else
        rc = fallocate(volume->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       (off_t)range[0], (off_t)range[1]);
    return rc ? errno : 0;
}

static void *serve(void *engine)
{
    struct blk_engine *e = engine;
    struct discarder *d = &e->discarder;

    pthread_mutex_lock(&d->lock);
    while (!d->is_ending) {
        struct work *work = d->todo;

        if (!work) {
            pthread_cond_wait(&d->is_wanted, &d->lock);
            continue;
        }
        d->todo = work->next;
        if (!d->todo)
            d->todo_end = &d->todo;
        pthread_mutex_unlock(&d->lock);
        work->discard_error = discard(&e->volume, &work->request);
        pthread_mutex_lock(&d->lock);
        work->next = d->done;
        __atomic_store_n(&d->done, work, __ATOMIC_RELEASE);
        eventfd_write(e->completions, 1);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

void discard_attach(struct blk_engine *e)
{
    struct discarder *d = &e->discarder;

    memset(d, 0, sizeof(*d));
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->is_wanted, NULL);
    d->todo_end = &d->todo;
}

void discard_detach(struct blk_engine *e)
{
    struct discarder *d = &e->discarder;

    if (d->is_started) {
        pthread_mutex_lock(&d->lock);
        d->is_ending = true;
        pthread_cond_signal(&d->is_wanted);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->thread, NULL);
    }
    pthread_cond_destroy(&d->is_wanted);
    pthread_mutex_destroy(&d->lock);
}

bool discard_prepare(struct blk_engine *e)
{
    struct discarder *d = &e->discarder;

    /* Most disks never see one. */
    if (!d->is_started)
        d->is_started = !pthread_create(&d->thread, NULL, serve, e);
    return d->is_started;
}

void discard_begin(struct blk_engine *e, struct work *work)
{
    struct discarder *d = &e->discarder;

    pthread_mutex_lock(&d->lock);
    work->next = NULL;
    *d->todo_end = work;
    d->todo_end = &work->next;
    pthread_cond_signal(&d->is_wanted);
    pthread_mutex_unlock(&d->lock);
}

struct work *discard_take_done(struct blk_engine *e)
{
    struct discarder *d = &e->discarder;
    struct work *done;

    if (!discard_has_ended(e))
        return NULL;
    pthread_mutex_lock(&d->lock);
    done = d->done;
    d->done = NULL;
    pthread_mutex_unlock(&d->lock);
    return done;
}

bool discard_has_ended(const struct blk_engine *e)
{
    return __atomic_load_n(&e->discarder.done, __ATOMIC_ACQUIRE);
}
