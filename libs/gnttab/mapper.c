/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mapper.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xen/grant_table.h>

#include "abi/layout.h"
#include "libs/client/client.h"
#include "libs/client/vmcore.h"

#define NR_SLOTS 16384
#define PREFIX "mapper."

/* key is 0 in a free slot; identity counts only if it is not. */
struct slot {
    uint64_t identity; /* of the domain's vmcore */
    uint64_t key;
};

#define KEY_USED (UINT64_C(1) << 63)
#define KEY(domid, ref) (KEY_USED | (uint64_t)(domid) << 32 | (ref))
#define KEY_DOMID(key) ((uint32_t)((key) >> 32) & 0xffff)
#define KEY_REF(key) ((uint32_t)(key))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int nr_handles;
static struct slot *slots;
static char own_path[256];
static int own_fd = -1;
/* A stack: what was just in use is warm in the processor's caches. */
static uint16_t free_slots[NR_SLOTS];
static int nr_free_slots;

/* --- behind the dead ---------------------------------------------------------- */

/* Somebody's file as it is now; the caller unmaps and closes. */
static struct slot *map_file(const char *name, int *fd)
{
    char path[256];
    struct stat file;
    void *map;

    if (evtchnd_runtime_path(path, sizeof(path), name))
        return NULL;
    *fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0)
        return NULL;
    if (!fstat(*fd, &file) && file.st_size == NR_SLOTS * sizeof(struct slot)) {
        map = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_SHARED, *fd, 0);
        if (map != MAP_FAILED)
            return map;
    }
    close(*fd);
    return NULL;
}

static void unmap_file(struct slot *map, int fd)
{
    munmap(map, NR_SLOTS * sizeof(*map));
    close(fd);
}

/* A use that a dead mapper, `name`, had. */
struct use {
    const char *name;
    const struct slot *slot;
};

/* Call with each mapper's name until it says true. */
static bool any_mapper(bool (*is_it)(const char *name, const struct use *use),
                       const struct use *use)
{
    char path[256];
    struct dirent *entry;
    bool found = false;
    DIR *directory = NULL;

    if (!evtchnd_runtime_path(path, sizeof(path), ""))
        directory = opendir(path);
    while (directory && !found && (entry = readdir(directory))) {
        if (!strncmp(entry->d_name, PREFIX, strlen(PREFIX)))
            found = is_it(entry->d_name, use);
    }
    if (directory)
        closedir(directory);
    return found;
}

static bool has_same_use(const char *name, const struct use *use)
{
    bool found = false;
    struct slot *map;
    int fd;

    map = strcmp(name, use->name) ? map_file(name, &fd) : NULL;
    if (!map)
        return false;
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        for (int i = 0; i < NR_SLOTS && !found; i++)
            found = map[i].key == use->slot->key &&
                    map[i].identity == use->slot->identity;
    }
    unmap_file(map, fd);
    return found;
}

static void clear_marks(const struct slot *slot)
{
    uint64_t at = KEY_REF(slot->key) * sizeof(grant_entry_v1_t);
    struct vmcore core;
    char *frames;

    if (at >= GRANT_FRAMES_BYTES ||
        vmcore_open(&core, KEY_DOMID(slot->key), true))
        return;
    /* The number may be another domain's now. */
    if (core.identity == slot->identity &&
        core.bytes >= GRANT_FRAMES_GPA + GRANT_FRAMES_BYTES) {
        frames = mmap(NULL, GRANT_FRAMES_BYTES, PROT_READ | PROT_WRITE,
                      MAP_SHARED, core.fd, GRANT_FRAMES_GPA);
        if (frames != MAP_FAILED) {
            __atomic_fetch_and((uint16_t *)(void *)(frames + at),
                               (uint16_t) ~(GTF_reading | GTF_writing),
                               __ATOMIC_SEQ_CST);
            munmap(frames, GRANT_FRAMES_BYTES);
        }
    }
    close(core.fd);
}

/* Clean up behind one if it is dead. */
static bool reap(const char *name, const struct use *unused)
{
    char path[256];
    struct slot *map;
    int fd;

    (void)unused;
    map = map_file(name, &fd);
    if (!map)
        return false;
    if (!flock(fd, LOCK_EX | LOCK_NB)) {
        for (int i = 0; i < NR_SLOTS; i++) {
            struct use use = {name, &map[i]};

            if (map[i].key & KEY_USED && !any_mapper(has_same_use, &use))
                clear_marks(&map[i]);
        }
        if (!evtchnd_runtime_path(path, sizeof(path), name))
            unlink(path);
    }
    unmap_file(map, fd);
    return false;
}

/* --- our own file --------------------------------------------------------------- */

/*
 * Whoever serves domains cleans up behind the others. Where they are several
 * users they are the directory's group, which its set-group-ID bit says.
 */
static void share(int fd)
{
    struct stat directory;
    char path[256];

    if (!evtchnd_runtime_path(path, sizeof(path), "") &&
        !stat(path, &directory) && directory.st_mode & S_ISGID)
        fchmod(fd, 0660);
}

/* It has its name when it is locked, so nobody takes us for dead. */
static int make_file(void)
{
    char directory[256], link[64], name[64];
    int fd;

    snprintf(name, sizeof(name), PREFIX "%ld", (long)getpid());
    if (evtchnd_runtime_path(directory, sizeof(directory), "") ||
        evtchnd_runtime_path(own_path, sizeof(own_path), name))
        return -1;
    fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    share(fd);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    /* All of it now: a touch that finds no room is a signal. */
    if (posix_fallocate(fd, 0, NR_SLOTS * sizeof(struct slot)) ||
        flock(fd, LOCK_EX | LOCK_NB) ||
        linkat(AT_FDCWD, link, AT_FDCWD, own_path, AT_SYMLINK_FOLLOW)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void open_file(void)
{
    void *map;

    own_fd = make_file();
    if (own_fd < 0)
        return;
    map = mmap(NULL, NR_SLOTS * sizeof(*slots), PROT_READ | PROT_WRITE,
               MAP_SHARED, own_fd, 0);
    if (map != MAP_FAILED) {
        slots = map;
        for (int i = 0; i < NR_SLOTS; i++)
            free_slots[i] = (uint16_t)(NR_SLOTS - 1 - i);
        nr_free_slots = NR_SLOTS;
        return;
    }
    unlink(own_path);
    close(own_fd);
    own_fd = -1;
}

/* One at a time cleans up, and nobody maps anything before that is done. */
static int lock_all(void)
{
    char path[256];
    int fd = -1;

    if (!evtchnd_runtime_path(path, sizeof(path), "mappers.lock"))
        fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) {
        share(fd);
        flock(fd, LOCK_EX);
    }
    return fd;
}

void mapper_open(void)
{
    int all;

    pthread_mutex_lock(&lock);
    if (!nr_handles++) {
        all = lock_all();
        if (all >= 0) {
            any_mapper(reap, NULL);
            open_file();
            close(all);
        }
    }
    pthread_mutex_unlock(&lock);
}

void mapper_close(void)
{
    pthread_mutex_lock(&lock);
    if (!--nr_handles && slots) {
        munmap(slots, NR_SLOTS * sizeof(*slots));
        slots = NULL;
        unlink(own_path);
        close(own_fd);
        own_fd = -1;
    }
    pthread_mutex_unlock(&lock);
}

int mapper_note(const struct vmcore *core, uint32_t ref)
{
    int slot;

    if (!slots || !nr_free_slots)
        return -1;
    slot = free_slots[--nr_free_slots];
    slots[slot].identity = core->identity;
    /* The mark that follows is set by an atomic that waits for this. */
    __atomic_store_n(&slots[slot].key, KEY(core->domid, ref), __ATOMIC_RELEASE);
    return slot;
}

void mapper_forget(int slot)
{
    if (slot < 0 || !slots)
        return;
    __atomic_store_n(&slots[slot].key, 0, __ATOMIC_RELEASE);
    free_slots[nr_free_slots++] = (uint16_t)slot;
}
