/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vmcore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "abi/layout.h"
#include "client.h"

/*
 * When it was made, where the file system knows, besides its number: that
 * may be given to another file once this one is gone.
 */
static uint64_t identity(int fd, const struct stat *file)
{
    struct statx more;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &more) ||
        !(more.stx_mask & STATX_BTIME))
        return (uint64_t)file->st_ino;
    return (uint64_t)file->st_ino ^
           ((uint64_t)more.stx_btime.tv_sec << 30 | more.stx_btime.tv_nsec);
}

int vmcore_open(struct vmcore *core, uint32_t domid, bool cloexec)
{
    char name[32], path[256];
    struct stat file;

    snprintf(name, sizeof(name), "vmcore.%u", domid);
    core->domid = domid;
    core->fd = -1;
    if (!evtchnd_runtime_path(path, sizeof(path), name))
        core->fd = open(path, O_RDWR | O_NOFOLLOW | (cloexec ? O_CLOEXEC : 0));
    if (core->fd < 0) {
        if (errno == ENOENT)
            errno = ESRCH;
        return -1;
    }
    if (fstat(core->fd, &file)) {
        close(core->fd);
        return -1;
    }
    core->bytes = (uint64_t)file.st_size;
    core->identity = identity(core->fd, &file);
    return 0;
}

bool vmcore_is_current(const struct vmcore *core)
{
    struct stat file;

    /* The name goes with the domain. */
    return !fstat(core->fd, &file) && file.st_nlink;
}

bool vmcore_has_frame(const struct vmcore *core, uint64_t mfn)
{
    uint64_t gpa = mfn * VMCORE_PAGE_BYTES;

    if (mfn >= core->bytes / VMCORE_PAGE_BYTES)
        return false;
    if (gpa == SHARED_INFO_GPA)
        return true;
    if (gpa >= MACHINE_HOLE_GPA && gpa < MACHINE_HOLE_END_GPA)
        return false;
    return gpa >= M2P_GPA + GUEST_ALIGN_BYTES;
}

static int lock(const struct vmcore *core, short type, uint64_t frame,
                uint64_t nr_pages)
{
    struct flock range = {
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)(frame * VMCORE_PAGE_BYTES),
        .l_len = (off_t)(nr_pages * VMCORE_PAGE_BYTES),
    };

    return fcntl(core->fd, F_OFD_SETLK, &range);
}

/*
 * The VM process has its lock for the microseconds that it takes to give back
 * a few pages. Not F_OFD_SETLKW: one that was taken over may keep it.
 */
int vmcore_pin(const struct vmcore *core, uint64_t frame, uint64_t nr_pages)
{
    const struct timespec pause = {.tv_nsec = 50 * 1000};

    for (int tries = 1000; lock(core, F_RDLCK, frame, nr_pages); tries--) {
        if (errno == EACCES)
            errno = EAGAIN;
        if (errno != EAGAIN || !tries)
            return -1;
        nanosleep(&pause, NULL);
    }
    return 0;
}

void vmcore_unpin(const struct vmcore *core, uint64_t frame, uint64_t nr_pages)
{
    lock(core, F_UNLCK, frame, nr_pages);
}

bool vmcore_fill(const struct vmcore *core, uint64_t frame, uint64_t nr_pages)
{
    int rc;

    do {
        rc = fallocate(core->fd, 0, (off_t)(frame * VMCORE_PAGE_BYTES),
                       (off_t)(nr_pages * VMCORE_PAGE_BYTES));
    } while (rc && errno == EINTR);
    return !rc || errno == EOPNOTSUPP;
}

/* Large pages of a tmpfs would count what is behind the file's end as well. */
bool vmcore_is_whole(const struct vmcore *core)
{
    uint64_t bytes = core->bytes;
    struct stat file;

    if (bytes > MACHINE_HOLE_END_GPA)
        bytes -= MACHINE_HOLE_END_GPA - MACHINE_HOLE_GPA;
    return !(bytes % (2 << 20)) && !fstat(core->fd, &file) &&
           (uint64_t)file.st_blocks * 512 >= bytes;
}

int vmcore_map_zeros(void *where, int prot, uint64_t nr_pages)
{
    void *map = mmap(where, nr_pages * VMCORE_PAGE_BYTES, prot,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    return map == MAP_FAILED ? -1 : 0;
}

void *vmcore_reserve(void *wanted, uint64_t nr_pages, int flags)
{
    void *where;

    if (!nr_pages || nr_pages > UINT32_MAX) {
        errno = EINVAL;
        return NULL;
    }
    where = mmap(wanted, nr_pages * VMCORE_PAGE_BYTES, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
    return where == MAP_FAILED ? NULL : where;
}

int vmcore_map(const struct vmcore *core, void *where, int prot,
               const uint64_t *frame, uint64_t nr_pages)
{
    char *at = where;

    for (uint64_t i = 0, n; i < nr_pages; i += n) {
        n = 1;
        while (i + n < nr_pages && frame[i + n] == frame[i] + n)
            n++;
        if (mmap(at + i * VMCORE_PAGE_BYTES, n * VMCORE_PAGE_BYTES, prot,
                 MAP_SHARED | MAP_FIXED, core->fd,
                 (off_t)(frame[i] * VMCORE_PAGE_BYTES)) == MAP_FAILED)
            return -1;
    }
    return 0;
}
