/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "grants.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "abi/layout.h"
#include "mapper.h"

static pthread_mutex_t uses_lock = PTHREAD_MUTEX_INITIALIZER; /* guest.of[] */

/*
 * Is it still the domain of its number? To ask the kernel costs more than a
 * grant: while its grants are in use, once in a tick of this clock is enough.
 */
static bool is_current(struct grantor *grantor)
{
    struct timespec now;
    int64_t now_ns;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    now_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    if (grantor->users && grantor->checked_ns == now_ns)
        return true;
    if (!vmcore_is_current(&grantor->core))
        return false;
    grantor->checked_ns = now_ns;
    return true;
}

struct grantor *grantor_get(struct grantor **all, uint32_t domid)
{
    struct grantor *grantor;

    for (grantor = *all; grantor; grantor = grantor->next) {
        if (grantor->core.domid == domid && is_current(grantor)) {
            grantor->users++;
            return grantor;
        }
    }
    grantor = calloc(1, sizeof(*grantor));
    if (!grantor)
        return NULL;
    if (vmcore_open(&grantor->core, domid, true))
        goto fail_free;
    if (grantor->core.bytes < GRANT_FRAMES_GPA + GRANT_FRAMES_BYTES) {
        errno = EINVAL;
        goto fail_close;
    }
    grantor->guest = guest_get(&grantor->core);
    if (!grantor->guest)
        goto fail_close;
    /* A VM process may have made its file longer; a view is as it was. */
    if (grantor->core.bytes > grantor->guest->bytes)
        grantor->core.bytes = grantor->guest->bytes;
    grantor->entries = grantor->guest->entries;
    grantor->users = 1;
    grantor->next = *all;
    *all = grantor;
    return grantor;
fail_close:
    close(grantor->core.fd);
fail_free:
    free(grantor);
    return NULL;
}

/* The last one stays for the next call, unless its domain is gone. */
void grantor_put(struct grantor **all, struct grantor *grantor)
{
    struct grantor **link = all;

    if (--grantor->users)
        return;
    if (vmcore_is_current(&grantor->core))
        return;
    while (*link != grantor)
        link = &(*link)->next;
    *link = grantor->next;
    grantor_free(grantor);
}

void grantor_free(struct grantor *grantor)
{
    pins_free(grantor);
    guest_put(grantor->guest);
    close(grantor->core.fd);
    free(grantor);
}

void grantors_drop_unused(struct grantor **all)
{
    struct grantor **link = all, *grantor;

    while ((grantor = *link)) {
        if (grantor->users) {
            link = &grantor->next;
            continue;
        }
        *link = grantor->next;
        grantor_free(grantor);
    }
}

char *grantor_view(struct grantor *grantor, int prot, uint64_t frame)
{
    char *view = guest_view(grantor->guest, &grantor->core, prot);

    return view ? view + frame * VMCORE_PAGE_BYTES : NULL;
}

/* flags and domid of an entry are one word: checked and marked as one. */
union head {
    struct {
        uint16_t flags;
        domid_t domid;
    };
    uint32_t word;
};

static uint32_t *head_of(struct grantor *grantor, uint32_t ref)
{
    return (uint32_t *)(void *)&grantor->entries[ref];
}

static int16_t mark(struct grantor *grantor, uint32_t ref, bool writable)
{
    uint32_t *word = head_of(grantor, ref);
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

static void unmark(struct grantor *grantor, uint32_t ref, uint16_t flags)
{
    __atomic_fetch_and(head_of(grantor, ref), ~(uint32_t)flags,
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

void grant_end(struct grantor *grantor, uint32_t ref, bool writable)
{
    struct use *use = &grantor->guest->of[ref];
    uint16_t flags = 0;

    if (writable && !--use->writers)
        flags = GTF_writing;
    if (!--use->readers)
        flags |= GTF_reading;
    if (flags)
        unmark(grantor, ref, flags);
    if (!use->readers)
        mapper_forget(use->slot);
}

int16_t grant_begin(struct grantor *grantor, uint32_t ref, bool writable,
                    uint64_t *frame)
{
    struct use *use;
    int16_t status;

    if (ref >= NR_GRANTS)
        return GNTST_bad_gntref;
    use = &grantor->guest->of[ref];
    if (!use->readers++)
        use->slot = mapper_note(&grantor->core, ref);
    use->writers += writable;
    status = mark(grantor, ref, writable);
    if (status == GNTST_okay) {
        /* After the mark: the guest may not change it any more. */
        *frame =
            __atomic_load_n(&grantor->entries[ref].frame, __ATOMIC_SEQ_CST);
        if (!vmcore_has_frame(&grantor->core, *frame))
            status = GNTST_general_error;
    }
    if (status != GNTST_okay)
        grant_end(grantor, ref, writable);
    return status;
}
