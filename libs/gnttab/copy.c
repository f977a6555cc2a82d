/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* xengnttab_grant_copy(): nothing is mapped for it. */
#include <errno.h>
#include <unistd.h>

#include <xengnttab.h>

#include "handle.h"

/* One side of a copy: the caller's memory, or a page that is in use now. */
struct copy_side {
    char *virt;
    struct grantor *grantor;
    off_t at;
    uint32_t ref;
    bool writable;
};

static int16_t side_begin(xengnttab_handle *xgt, struct copy_side *side,
                          const union xengnttab_copy_ptr *ptr, bool is_foreign,
                          bool writable, uint16_t length)
{
    uint64_t frame;
    int16_t status;

    *side = (struct copy_side){.writable = writable};
    if (!is_foreign) {
        side->virt = ptr->virt;
        return GNTST_okay;
    }
    if ((uint32_t)ptr->foreign.offset + length > VMCORE_PAGE_BYTES)
        return GNTST_bad_copy_arg;
    side->grantor = grantor_get(&xgt->grantors, ptr->foreign.domid);
    if (!side->grantor)
        return GNTST_bad_domain;
    side->ref = ptr->foreign.ref;
    grants_lock();
    status = grant_begin(side->grantor, side->ref, writable, &frame);
    grants_unlock();
    if (status != GNTST_okay) {
        grantor_put(&xgt->grantors, side->grantor);
        side->grantor = NULL;
        return status;
    }
    side->at = (off_t)(frame * VMCORE_PAGE_BYTES + ptr->foreign.offset);
    return GNTST_okay;
}

static void side_end(xengnttab_handle *xgt, struct copy_side *side)
{
    if (!side->grantor)
        return;
    grants_lock();
    grant_end(side->grantor, side->ref, side->writable);
    grants_unlock();
    grantor_put(&xgt->grantors, side->grantor);
}

/* Through the file: a bad address of the caller's is an error, not a signal. */
static bool copy_bytes(const struct copy_side *source,
                       const struct copy_side *dest, size_t length)
{
    char bounce[VMCORE_PAGE_BYTES], *from = bounce;

    if (!source->grantor)
        from = source->virt;
    else if (!dest->grantor)
        from = dest->virt;
    if (source->grantor && pread(source->grantor->core.fd, from, length,
                                 source->at) != (ssize_t)length)
        return false;
    return !dest->grantor || pwrite(dest->grantor->core.fd, from, length,
                                    dest->at) == (ssize_t)length;
}

static int16_t copy_segment(xengnttab_handle *xgt,
                            const xengnttab_grant_copy_segment_t *segment)
{
    bool from_foreign = segment->flags & GNTCOPY_source_gref;
    bool to_foreign = segment->flags & GNTCOPY_dest_gref;
    struct copy_side source, dest;
    int16_t status;

    if ((!from_foreign && !to_foreign) || segment->len > VMCORE_PAGE_BYTES)
        return GNTST_bad_copy_arg;
    status = side_begin(xgt, &source, &segment->source, from_foreign, false,
                        segment->len);
    if (status != GNTST_okay)
        return status;
    status =
        side_begin(xgt, &dest, &segment->dest, to_foreign, true, segment->len);
    if (status == GNTST_okay) {
        if (!copy_bytes(&source, &dest, segment->len))
            status = GNTST_general_error;
        side_end(xgt, &dest);
    }
    side_end(xgt, &source);
    return status;
}

int xengnttab_grant_copy(xengnttab_handle *xgt, uint32_t count,
                         xengnttab_grant_copy_segment_t *segs)
{
    int rc = 0;

    pthread_mutex_lock(&xgt->lock);
    if (xgt->is_restricted) {
        errno = ENOTTY;
        rc = -1;
    }
    for (uint32_t i = 0; i < count && !rc; i++)
        segs[i].status = copy_segment(xgt, &segs[i]);
    pthread_mutex_unlock(&xgt->lock);
    return rc;
}
