/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "paths.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#define RUNTIME_DIR "/run/xenner"
#define SHARED_MEMORY_DIR "/dev/shm/xenner"

static bool is_tmpfs(const char *path)
{
    struct statfs file_system;

    return !statfs(path, &file_system) && file_system.f_type == TMPFS_MAGIC;
}

static const char *find_directory(void)
{
    const char *given = secure_getenv("XENNER_RUNTIME_DIR");

    if (given && *given)
        return given;
    return is_tmpfs("/run") || !is_tmpfs("/dev/shm") ? RUNTIME_DIR
                                                     : SHARED_MEMORY_DIR;
}

/*
 * Anybody may make a directory in /dev/shm, but that is sticky: nobody else
 * puts another in the place of one that is found good. One that is not there
 * is no good, or its maker would be whoever is fastest.
 */
static int check_shared(void)
{
    struct stat file;

    if (lstat(SHARED_MEMORY_DIR, &file))
        return -1;
    if (S_ISDIR(file.st_mode) && !(file.st_mode & S_IWOTH) &&
        (!file.st_uid || file.st_uid == geteuid()))
        return 0;
    errno = EPERM;
    return -1;
}

int evtchnd_runtime_path(char *path, size_t bytes, const char *name)
{
    const char *directory = find_directory();
    int length;

    if (!strcmp(directory, SHARED_MEMORY_DIR) && check_shared())
        return -1;
    length = snprintf(path, bytes, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= bytes) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return 0;
}
