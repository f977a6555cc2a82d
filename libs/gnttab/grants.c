/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "grants.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "abi/layout.h"
#include "mapper.h"

/*
 * Uses of a grant by this process, because the marks in an entry are bits:
 * the last one clears them. One table for all handles.
 */
struct use {
    struct use *next, **link; /* that it is linked by */
    uint64_t identity;        /* of the domain's vmcore */
    uint32_t ref;
    unsigned int readers, writers;
    int slot; /* in this process's mapper file */
};

#define NR_BUCKETS 1024

static struct use *uses[NR_BUCKETS];
static struct use *spare_uses; /* to be used again, without malloc(3) */
static pthread_mutex_t uses_lock = PTHREAD_MUTEX_INITIALIZER;

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
    granter->nr_entries = GRANT_FRAMES_BYTES / sizeof(*granter->entries);
    granter->users = 1;
    granter->next = *all;
    *all = granter;
    return granter;
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

static struct use **use_of(struct granter *granter, uint32_t ref)
{
    struct use **link = &uses[(granter->core.identity * 31 + ref) % NR_BUCKETS];

    while (*link &&
           ((*link)->identity != granter->core.identity || (*link)->ref != ref))
        link = &(*link)->next;
    return link;
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

static struct use *add_use(struct granter *granter, uint32_t ref)
{
    struct use **link = use_of(granter, ref), *use = *link;

    if (use)
        return use;
    use = spare_uses;
    if (use)
        spare_uses = use->next;
    else
        use = malloc(sizeof(*use));
    if (!use)
        return NULL;
    memset(use, 0, sizeof(*use));
    use->identity = granter->core.identity;
    use->ref = ref;
    use->slot = mapper_note(&granter->core, ref);
    use->link = link;
    *link = use;
    return use;
}

void grant_end(struct granter *granter, struct use *use, bool writable)
{
    uint16_t flags = 0;

    if (writable && !--use->writers)
        flags = GTF_writing;
    if (!--use->readers)
        flags |= GTF_reading;
    if (flags)
        unmark(granter, use->ref, flags);
    if (use->readers)
        return;
    mapper_forget(use->slot);
    *use->link = use->next;
    if (use->next)
        use->next->link = use->link;
    use->next = spare_uses;
    spare_uses = use;
}

void grants_lock(void)
{
    pthread_mutex_lock(&uses_lock);
}

void grants_unlock(void)
{
    pthread_mutex_unlock(&uses_lock);
}

int16_t grant_begin(struct granter *granter, uint32_t ref, bool writable,
                    struct use **begun, uint64_t *frame)
{
    struct use *use;
    int16_t status;

    if (ref >= granter->nr_entries)
        return GNTST_bad_gntref;
    *begun = use = add_use(granter, ref);
    if (!use)
        return GNTST_no_device_space;
    use->readers++;
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
        grant_end(granter, use, writable);
    return status;
}
