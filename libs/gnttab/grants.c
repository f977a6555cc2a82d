/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "grants.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "abi/layout.h"
#include "mapper.h"

#define NR_ENTRIES (GRANT_FRAMES_BYTES / sizeof(grant_entry_v1_t))

/* Uses of a grant by this process. */
struct use {
    uint32_t readers, writers; /* whoever writes reads too */
    int slot;                  /* in this process's mapper file */
};

/*
 * Those of a domain's grants, of all handles: the marks in an entry are bits,
 * and the last use clears them.
 */
struct uses {
    struct uses *next;
    uint64_t identity; /* of the domain's vmcore */
    unsigned int nr_granters;
    struct use of[NR_ENTRIES];
};

static pthread_mutex_t uses_lock = PTHREAD_MUTEX_INITIALIZER; /* of[] */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct uses *all_uses;

static struct uses *uses_get(uint64_t identity)
{
    struct uses *uses;

    pthread_mutex_lock(&list_lock);
    for (uses = all_uses; uses && uses->identity != identity; uses = uses->next)
        ;
    if (!uses) {
        uses = calloc(1, sizeof(*uses));
        if (uses) {
            uses->identity = identity;
            uses->next = all_uses;
            all_uses = uses;
        }
    }
    if (uses)
        uses->nr_granters++;
    pthread_mutex_unlock(&list_lock);
    return uses;
}

static void uses_put(struct uses *uses)
{
    struct uses **link = &all_uses;

    pthread_mutex_lock(&list_lock);
    if (!--uses->nr_granters) {
        while (*link != uses)
            link = &(*link)->next;
        *link = uses->next;
        free(uses);
    }
    pthread_mutex_unlock(&list_lock);
}

/*
 * Is it still the domain of its number? To ask the kernel costs more than a
 * grant: while its grants are in use, once in a tick of this clock is enough.
 */
static bool is_current(struct granter *granter)
{
    struct timespec now;
    int64_t now_ns;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    now_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    if (granter->users && granter->checked_ns == now_ns)
        return true;
    if (!vmcore_is_current(&granter->core))
        return false;
    granter->checked_ns = now_ns;
    return true;
}

struct granter *granter_get(struct granter **all, uint32_t domid)
{
    struct granter *granter;

    for (granter = *all; granter; granter = granter->next) {
        if (granter->core.domid == domid && is_current(granter)) {
            granter->users++;
            return granter;
        }
    }
    granter = calloc(1, sizeof(*granter));
    if (!granter)
        return NULL;
    if (vmcore_open(&granter->core, domid, true))
        goto fail_free;
    if (granter->core.bytes < GRANT_FRAMES_GPA + GRANT_FRAMES_BYTES) {
        errno = EINVAL;
        goto fail_close;
    }
    granter->entries = mmap(NULL, GRANT_FRAMES_BYTES, PROT_READ | PROT_WRITE,
                            MAP_SHARED, granter->core.fd, GRANT_FRAMES_GPA);
    if (granter->entries == MAP_FAILED)
        goto fail_close;
    granter->uses = uses_get(granter->core.identity);
    if (!granter->uses)
        goto fail_unmap;
    granter->users = 1;
    granter->next = *all;
    *all = granter;
    return granter;
fail_unmap:
    munmap(granter->entries, GRANT_FRAMES_BYTES);
fail_close:
    close(granter->core.fd);
fail_free:
    free(granter);
    return NULL;
}

/* The last one stays for the next call, unless its domain is gone. */
void granter_put(struct granter **all, struct granter *granter)
{
    struct granter **link = all;

    if (--granter->users)
        return;
    if (vmcore_is_current(&granter->core))
        return;
    while (*link != granter)
        link = &(*link)->next;
    *link = granter->next;
    granter_free(granter);
}

void granter_free(struct granter *granter)
{
    for (int i = 0; i < 2; i++) {
        if (granter->view[i])
            munmap(granter->view[i], granter->core.bytes);
    }
    munmap(granter->entries, GRANT_FRAMES_BYTES);
    uses_put(granter->uses);
    holds_free(granter);
    close(granter->core.fd);
    free(granter);
}

void granters_drop_unused(struct granter **all)
{
    struct granter **link = all, *granter;

    while ((granter = *link)) {
        if (granter->users) {
            link = &granter->next;
            continue;
        }
        *link = granter->next;
        granter_free(granter);
    }
}

char *granter_view(struct granter *granter, int prot, uint64_t frame)
{
    char **view = &granter->view[prot & PROT_WRITE ? 1 : 0];
    void *map;

    /* The processor cannot write what it cannot read. QEMU maps so. */
    if (prot == PROT_WRITE)
        prot |= PROT_READ;
    if (prot != PROT_READ && prot != (PROT_READ | PROT_WRITE))
        return NULL;
    if (!*view) {
        map = mmap(NULL, granter->core.bytes, prot, MAP_SHARED,
                   granter->core.fd, 0);
        if (map == MAP_FAILED)
            return NULL;
        *view = map;
    }
    return *view + frame * VMCORE_PAGE_BYTES;
}

/* flags and domid of an entry are one word: checked and marked as one. */
union head {
    struct {
        uint16_t flags;
        domid_t domid;
    };
    uint32_t word;
};

static uint32_t *head_of(struct granter *granter, uint32_t ref)
{
    return (uint32_t *)(void *)&granter->entries[ref];
}

static int16_t mark(struct granter *granter, uint32_t ref, bool writable)
{
    uint32_t *word = head_of(granter, ref);
    union head old, new;

    old.word = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    do {
        if ((old.flags & GTF_type_mask) != GTF_permit_access || old.domid)
            return GNTST_general_error;
        if (writable && old.flags & GTF_readonly)
            return GNTST_general_error;
        new = old;
        new.flags |= GTF_reading | (writable ? GTF_writing : 0);
    } while (!__atomic_compare_exchange_n(word, &old.word, new.word, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return GNTST_okay;
}

static void unmark(struct granter *granter, uint32_t ref, uint16_t flags)
{
    __atomic_fetch_and(head_of(granter, ref), ~(uint32_t)flags,
                       __ATOMIC_SEQ_CST);
}

void grants_lock(void)
{
    pthread_mutex_lock(&uses_lock);
}

void grants_unlock(void)
{
    pthread_mutex_unlock(&uses_lock);
}

void grant_end(struct granter *granter, uint32_t ref, bool writable)
{
    struct use *use = &granter->uses->of[ref];
    uint16_t flags = 0;

    if (writable && !--use->writers)
        flags = GTF_writing;
    if (!--use->readers)
        flags |= GTF_reading;
    if (flags)
        unmark(granter, ref, flags);
    if (!use->readers)
        mapper_forget(use->slot);
}

int16_t grant_begin(struct granter *granter, uint32_t ref, bool writable,
                    uint64_t *frame)
{
    struct use *use;
    int16_t status;

    if (ref >= NR_ENTRIES)
        return GNTST_bad_gntref;
    use = &granter->uses->of[ref];
    if (!use->readers++)
        use->slot = mapper_note(&granter->core, ref);
    use->writers += writable;
    status = mark(granter, ref, writable);
    if (status == GNTST_okay) {
        /* After the mark: the guest may not change it any more. */
        *frame =
            __atomic_load_n(&granter->entries[ref].frame, __ATOMIC_SEQ_CST);
        if (!vmcore_has_frame(&granter->core, *frame))
            status = GNTST_general_error;
    }
    if (status != GNTST_okay)
        grant_end(granter, ref, writable);
    return status;
}
