/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vmcore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
    if (evtchnd_runtime_path(path, sizeof(path), name))
        return -1;
    core->domid = domid;
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
    return gpa >= M2P_GPA + M2P_ALIGN_BYTES;
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
