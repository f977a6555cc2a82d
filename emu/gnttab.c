/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * grant_table_op, version 1. The table is GRANT_FRAMES of machine memory: the
 * guest maps it and writes its entries, those outside who were granted a page
 * find it there and read the entry. What is left to a hypercall is to tell
 * the guest where the table is, and to copy within the domain.
 */

#include "emu/emu.h"

#define NR_FRAMES (GRANT_FRAMES_BYTES / PAGE_SIZE)
#define NR_GRANTS (GRANT_FRAMES_BYTES / sizeof(struct grant_entry_v1))

_Static_assert(sizeof(struct grant_entry_v1) == 8, "grant_table.h");

static int setup_table(uint64_t arg)
{
    struct gnttab_setup_table op;

    if (copy_from_guest(&op, arg, sizeof(op)))
        return -XEN_EFAULT;
    op.status = GNTST_okay;
    if (!is_self(op.dom)) {
        op.status = GNTST_bad_domain;
    } else if (op.nr_frames > NR_FRAMES) {
        op.status = GNTST_general_error;
    } else {
        for (uint64_t i = 0; i < op.nr_frames; i++) {
            xen_pfn_t mfn = (GRANT_FRAMES_GPA >> PAGE_SHIFT) + i;

            if (copy_to_guest((uint64_t)op.frame_list.p + i * sizeof(mfn), &mfn,
                              sizeof(mfn))) {
                op.status = GNTST_bad_virt_addr;
                break;
            }
        }
        if (op.status == GNTST_okay && op.nr_frames > emu_machine.grant_frames)
            emu_machine.grant_frames = op.nr_frames;
    }
    return copy_to_guest(arg, &op, sizeof(op));
}

static int query_size(uint64_t arg)
{
    struct gnttab_query_size op;

    if (copy_from_guest(&op, arg, sizeof(op)))
        return -XEN_EFAULT;
    if (is_self(op.dom)) {
        op.nr_frames = emu_machine.grant_frames;
        op.max_nr_frames = NR_FRAMES;
        op.status = GNTST_okay;
    } else {
        op.status = GNTST_bad_domain;
    }
    return copy_to_guest(arg, &op, sizeof(op));
}

/* 2 is answered as by a Xen that does not know it. */
static int set_version(uint64_t arg)
{
    struct gnttab_set_version op;

    if (copy_from_guest(&op, arg, sizeof(op)))
        return -XEN_EFAULT;
    if (op.version == 1)
        return 0;
    return op.version == 2 ? -XEN_ENOSYS : -XEN_EINVAL;
}

static int get_version(uint64_t arg)
{
    struct gnttab_get_version op;

    if (copy_from_guest(&op, arg, sizeof(op)))
        return -XEN_EFAULT;
    if (!is_self(op.dom))
        return -XEN_ESRCH;
    op.version = 1;
    return copy_to_guest(arg, &op, sizeof(op));
}

/* --- copy ----------------------------------------------------------------- */

/* A grant that is in use for as long as `flag` stands in its entry. */
struct held {
    struct grant_entry_v1 *entry; /* NULL: named by frame, not by grant */
    uint16_t flag;
    uint64_t mfn;
};

/*
 * Take a grant of this domain to itself, as gnttab_copy may name one. The
 * flag goes in before the entry is believed: a guest that takes the grant
 * back looks at the flags last (grant_table.h, "Invalidating").
 */
static int16_t hold_grant(struct held *held, uint32_t ref, bool is_write)
{
    struct grant_entry_v1 *table = machine(GRANT_FRAMES_GPA);
    uint16_t flags;

    if (ref >= NR_GRANTS)
        return GNTST_bad_gntref;
    held->flag = is_write ? GTF_reading | GTF_writing : GTF_reading;
    flags = READ_ONCE(table[ref].flags);
    do {
        if ((flags & GTF_type_mask) != GTF_permit_access ||
            READ_ONCE(table[ref].domid) != shared->domid ||
            (is_write && flags & GTF_readonly))
            return GNTST_general_error;
    } while (!__atomic_compare_exchange_n(&table[ref].flags, &flags,
                                          (uint16_t)(flags | held->flag), false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    held->entry = &table[ref];
    held->mfn = READ_ONCE(table[ref].frame);
    return GNTST_okay;
}

static void release(const struct held *held)
{
    if (held->entry)
        __atomic_fetch_and(&held->entry->flags, (uint16_t)~held->flag,
                           __ATOMIC_SEQ_CST);
}

static int16_t hold(struct held *held, const struct gnttab_copy_ptr *p,
                    bool is_grant, bool is_write)
{
    int16_t status = GNTST_okay;

    *held = (struct held){.mfn = p->u.gmfn};
    if (!is_self(p->domid))
        return GNTST_bad_domain;
    if (is_grant)
        status = hold_grant(held, p->u.ref, is_write);
    else if (p->domid != DOMID_SELF)
        return GNTST_permission_denied;
    if (status == GNTST_okay && !mfn_guest(held->mfn)) {
        release(held);
        status = GNTST_bad_page;
    }
    return status;
}

/* The guest may name the same page twice. */
static void copy_bytes(uint8_t *to, const uint8_t *from, uint16_t bytes)
{
    if (to + bytes <= from || from + bytes <= to) {
        memcpy(to, from, bytes);
    } else if (to < from) {
        for (int i = 0; i < bytes; i++)
            to[i] = from[i];
    } else {
        for (int i = bytes - 1; i >= 0; i--)
            to[i] = from[i];
    }
}

static int16_t copy_one(const struct gnttab_copy *op)
{
    struct held source, dest;
    int16_t status;

    if (op->source.offset + op->len > (int)PAGE_SIZE ||
        op->dest.offset + op->len > (int)PAGE_SIZE)
        return GNTST_bad_copy_arg;
    status = hold(&source, &op->source, op->flags & GNTCOPY_source_gref, false);
    if (status != GNTST_okay)
        return status;
    status = hold(&dest, &op->dest, op->flags & GNTCOPY_dest_gref, true);
    if (status == GNTST_okay) {
        copy_bytes(machine((dest.mfn << PAGE_SHIFT) + op->dest.offset),
                   machine((source.mfn << PAGE_SHIFT) + op->source.offset),
                   op->len);
        release(&dest);
    }
    release(&source);
    return status;
}

static int copy(uint64_t list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = list + i * sizeof(struct gnttab_copy);
        struct gnttab_copy op;

        if (copy_from_guest(&op, at, sizeof(op)))
            return -XEN_EFAULT;
        op.status = copy_one(&op);
        if (copy_to_guest(at + offsetof(struct gnttab_copy, status), &op.status,
                          sizeof(op.status)))
            return -XEN_EFAULT;
    }
    return 0;
}

/* --- what is not offered -------------------------------------------------- */

/*
 * Nothing of another domain's can be mapped here, so that there is no handle
 * either. Each of the list is told, as Xen does.
 */
static int refuse_each(uint64_t list, uint32_t count, uint64_t op_bytes,
                       uint64_t status_offset, int16_t status)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = list + i * op_bytes + status_offset;

        if (copy_to_guest(at, &status, sizeof(status)))
            return -XEN_EFAULT;
    }
    return 0;
}

#define REFUSE_EACH(list, count, type, why) \
    refuse_each(list, count, sizeof(type), offsetof(type, status), why)

static int64_t refuse(uint64_t cmd, uint64_t list, uint32_t count)
{
    switch (cmd) {
    case GNTTABOP_map_grant_ref:
        return REFUSE_EACH(list, count, struct gnttab_map_grant_ref,
                           GNTST_bad_domain);
    case GNTTABOP_unmap_grant_ref:
        return REFUSE_EACH(list, count, struct gnttab_unmap_grant_ref,
                           GNTST_bad_handle);
    case GNTTABOP_unmap_and_replace:
        return REFUSE_EACH(list, count, struct gnttab_unmap_and_replace,
                           GNTST_bad_handle);
    case GNTTABOP_transfer:
        return REFUSE_EACH(list, count, struct gnttab_transfer,
                           GNTST_bad_domain);
    case GNTTABOP_get_status_frames: /* version 2's */
        if (count != 1)
            return -XEN_EINVAL;
        return REFUSE_EACH(list, count, struct gnttab_get_status_frames,
                           GNTST_general_error);
    default:
        return -XEN_ENOSYS;
    }
}

int64_t do_grant_table_op(struct vcpu *v, guest_word cmd, guest_word arg,
                          guest_word count, guest_word a4, guest_word a5)
{
    cmd = (uint32_t)cmd;
    count = (uint32_t)count;
    if ((int32_t)count < 0)
        return -XEN_EINVAL;
    if (cmd == GNTTABOP_copy)
        return copy(arg, (uint32_t)count);
    if (cmd != GNTTABOP_setup_table && cmd != GNTTABOP_query_size &&
        cmd != GNTTABOP_set_version && cmd != GNTTABOP_get_version)
        return refuse(cmd, arg, (uint32_t)count);
    if (count != 1)
        return -XEN_EINVAL;
    switch (cmd) {
    case GNTTABOP_setup_table:
        return setup_table(arg);
    case GNTTABOP_query_size:
        return query_size(arg);
    case GNTTABOP_set_version:
        return set_version(arg);
    default:
        return get_version(arg);
    }
}
