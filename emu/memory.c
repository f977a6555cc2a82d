/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memory_op. The guest's page numbers are its own for good: pfn p is machine
 * page pfn_to_mfn(p). What is behind a number goes to the host and comes back
 * from it: a page is given back when the M2P has no pfn for it.
 */

#include "emu/emu.h"

#define NO_PFN (~(guest_word)0)

/* Above it a command has the number of the extent to begin with. */
#define MEMOP_EXTENT_SHIFT 6

/* Pages that the M2P says are the guest's. Counted, not remembered: rare. */
static uint64_t current_pages(void)
{
    uint64_t n = 0;

    for (uint64_t mfn = shared->guest_mfn;
         mfn < shared->machine_nr_pages && mfn < shared->m2p_nr_entries; mfn++)
        n += m2p[mfn] != NO_PFN;
    return n;
}

/* Pages on their way between guest and host: a request's worth at a time. */
#define BATCH_PAGES (EMU_REQUEST_DATA_BYTES / sizeof(uint64_t))

struct batch {
    struct vcpu *v;
    uint64_t what; /* EMU_BALLOON_* */
    uint32_t nr_pages;
    int rc; /* of the first that was refused; it may have been any of many */
};

static int send_batch(struct batch *b)
{
    struct emu_request *r = &b->v->pub.request;

    if (!b->nr_pages)
        return 0;
    r->arg[0] = b->what;
    r->length = b->nr_pages * (uint32_t)sizeof(uint64_t);
    b->nr_pages = 0;
    request(b->v, EMU_REQUEST_BALLOON);
    if (!b->rc)
        b->rc = (int)r->result;
    return (int)r->result;
}

static int add_page(struct batch *b, uint64_t mfn)
{
    memcpy(&b->v->pub.request.data[b->nr_pages * sizeof(mfn)], &mfn,
           sizeof(mfn));
    return ++b->nr_pages == BATCH_PAGES ? send_batch(b) : 0;
}

/* What a domain may have in one piece (CONFIG_DOMU_MAX_ORDER of Xen's). */
#define MAX_ORDER 9

/*
 * The extents that are asked for, from number `first` on. Where something is
 * wrong with that, Xen says that none were done, and not why.
 */
static bool get_reservation(struct xen_memory_reservation *r, uint64_t arg,
                            uint64_t first)
{
    return !copy_from_guest(r, arg, sizeof(*r)) && is_self(r->domid) &&
           r->extent_order <= MAX_ORDER && first < r->nr_extents &&
           r->nr_extents <= UINT32_MAX >> MEMOP_EXTENT_SHIFT &&
           (XENMEMF_get_address_bits(r->mem_flags) == 0 ||
            XENMEMF_get_address_bits(r->mem_flags) > PAGE_SHIFT);
}

/* Where the list has the number of extent i. */
static uint64_t extent(const struct xen_memory_reservation *r, uint64_t i)
{
    return (uint64_t)r->extent_start.p + i * sizeof(guest_word);
}

/* A host that does not want a page leaves it where it is: no harm is done, so
 * its answer does not matter here. */
static int64_t decrease(struct vcpu *v, uint64_t arg, uint64_t first)
{
    struct batch batch = {.v = v, .what = EMU_BALLOON_GIVE};
    struct xen_memory_reservation r;
    uint64_t i;

    if (!get_reservation(&r, arg, first))
        return (int64_t)first;
    for (i = first; i < r.nr_extents; i++) {
        guest_word mfn;
        uint64_t n = 0;

        if (copy_from_guest(&mfn, extent(&r, i), sizeof(mfn)))
            break;
        for (; n < 1UL << r.extent_order; n++, mfn++) {
            if (!mfn_guest(mfn) || m2p[mfn] == NO_PFN || table_level(mfn))
                break;
            m2p[mfn] = NO_PFN;
            add_page(&batch, mfn);
        }
        if (n < 1UL << r.extent_order)
            break;
    }
    send_batch(&batch);
    return (int64_t)i;
}

/* Ask for an extent's pages; all of them must be out of the guest. */
static int take_extent(struct batch *batch, uint64_t pfn, unsigned int order)
{
    if (pfn > shared->guest_nr_pages ||
        pfn + (1UL << order) > shared->guest_nr_pages)
        return -XEN_EINVAL;
    for (uint64_t n = 0; n < 1UL << order; n++) {
        if (m2p[pfn_to_mfn(pfn + n)] != NO_PFN)
            return -XEN_ENOMEM; /* over what the domain may have */
    }
    for (uint64_t n = 0; n < 1UL << order; n++) {
        int rc = add_page(batch, pfn_to_mfn(pfn + n));

        if (rc)
            return rc;
    }
    return 0;
}

/*
 * Populate extents from number `first` on, at most as many as one request
 * has room for: how many it were. Each: the first pfn in, the first mfn out.
 */
static uint64_t populate_some(struct vcpu *v,
                              const struct xen_memory_reservation *r,
                              uint64_t first)
{
    struct batch batch = {.v = v, .what = EMU_BALLOON_TAKE};
    uint64_t most = BATCH_PAGES >> r->extent_order, taken, done;
    uint64_t at = extent(r, first);
    guest_word pfns[BATCH_PAGES];

    for (taken = 0; taken < (most ? most : 1); taken++) {
        if (first + taken >= r->nr_extents ||
            copy_from_guest(&pfns[taken], at + taken * sizeof(pfns[0]),
                            sizeof(pfns[0])) ||
            take_extent(&batch, pfns[taken], r->extent_order))
            break;
    }
    send_batch(&batch);
    if (batch.rc)
        return 0;
    for (done = 0; done < taken; done++) {
        guest_word mfn = pfn_to_mfn(pfns[done]);

        for (uint64_t n = 0; n < 1UL << r->extent_order; n++) {
            uint64_t page = pfn_to_mfn(pfns[done] + n);

            memset(machine(page << PAGE_SHIFT), 0, PAGE_SIZE);
            m2p[page] = pfns[done] + n;
        }
        if (copy_to_guest(at + done * sizeof(mfn), &mfn, sizeof(mfn)))
            break;
    }
    return done;
}

static int64_t populate(struct vcpu *v, uint64_t arg, uint64_t first)
{
    struct xen_memory_reservation r;
    uint64_t done = first, count;

    if (!get_reservation(&r, arg, first))
        return (int64_t)first;
    do {
        count = populate_some(v, &r, done);
        done += count;
    } while (count && done < r.nr_extents);
    return (int64_t)done;
}

/* Are these machine pages the domain's, and given back? */
static bool all_out(uint64_t mfn, uint64_t count)
{
    for (uint64_t n = 0; n < count; n++) {
        if (!mfn_guest(mfn + n) || mfn + n >= shared->m2p_nr_entries ||
            m2p[mfn + n] != NO_PFN)
            return false;
    }
    return true;
}

/*
 * Any of its pages, for which the guest has no pfn yet: it writes the M2P
 * itself, and until then there is the pfn of populate_physmap. As long as one
 * search lasts its pages are looked at once.
 */
static int64_t increase(struct vcpu *v, uint64_t arg, uint64_t first)
{
    struct xen_memory_reservation r;
    uint64_t i = first, pfn = 0, count;

    if (!get_reservation(&r, arg, first))
        return (int64_t)first;
    count = 1UL << r.extent_order;
    for (; pfn + count <= shared->guest_nr_pages && i < r.nr_extents;
         pfn += count) {
        struct batch batch = {.v = v, .what = EMU_BALLOON_TAKE};
        guest_word mfn = pfn_to_mfn(pfn);

        if (!all_out(mfn, count))
            continue;
        if (take_extent(&batch, pfn, r.extent_order) || send_batch(&batch))
            break;
        for (uint64_t n = 0; n < count; n++) {
            memset(machine((mfn + n) << PAGE_SHIFT), 0, PAGE_SIZE);
            m2p[mfn + n] = pfn + n;
        }
        if (r.extent_start.p && copy_to_guest(extent(&r, i), &mfn, sizeof(mfn)))
            break;
        i++;
    }
    return (int64_t)i;
}

/*
 * Give pages back and get others. Here the same machine pages come back
 * under the new pfns, so only exchanges of like for like can be had.
 */
static int exchange_extent(uint64_t mfn, uint64_t pfn, unsigned int order)
{
    for (uint64_t n = 0; n < 1UL << order; n++) {
        if (!mfn_guest(mfn + n) || table_level(mfn + n) ||
            pfn + n >= shared->guest_nr_pages)
            return -XEN_EINVAL;
    }
    for (uint64_t n = 0; n < 1UL << order; n++) {
        memset(machine((mfn + n) << PAGE_SHIFT), 0, PAGE_SIZE);
        m2p[mfn + n] = pfn + n;
    }
    return 0;
}

/* As memory_exchange() of Xen's refuses what makes no sense. */
static int check_exchange(const struct xen_memory_exchange *x)
{
    const struct xen_memory_reservation *in = &x->in, *out = &x->out;

    if (in->extent_order > MAX_ORDER || out->extent_order > MAX_ORDER)
        return -XEN_EPERM;
    if (x->nr_exchanged > in->nr_extents || in->domid != out->domid ||
        ~0UL >> in->extent_order < in->nr_extents ||
        ~0UL >> out->extent_order < out->nr_extents ||
        in->nr_extents << in->extent_order != out->nr_extents
                                                  << out->extent_order)
        return -XEN_EINVAL;
    return is_self(in->domid) ? 0 : -XEN_EPERM;
}

static int exchange_all(struct xen_memory_exchange *x)
{
    int rc = check_exchange(x);

    if (rc)
        return rc;
    for (uint64_t i = x->nr_exchanged; i < x->in.nr_extents; i++) {
        uint64_t to = extent(&x->out, i);
        guest_word mfn, pfn;

        if (x->in.extent_order != x->out.extent_order)
            return -XEN_ENOMEM; /* other pieces than these there are none */
        if (copy_from_guest(&mfn, extent(&x->in, i), sizeof(mfn)) ||
            copy_from_guest(&pfn, to, sizeof(pfn)))
            return -XEN_EFAULT;
        rc = exchange_extent(mfn, pfn, x->in.extent_order);
        if (rc)
            return rc;
        x->nr_exchanged = i + 1;
        if (copy_to_guest(to, &mfn, sizeof(mfn)))
            return -XEN_EFAULT;
    }
    return 0;
}

/* The guest hears how many it were, also of a call that failed. */
static int exchange(uint64_t arg)
{
    struct xen_memory_exchange x;
    int rc;

    if (copy_from_guest(&x, arg, sizeof(x)))
        return -XEN_EFAULT;
    rc = exchange_all(&x);
    if (copy_to_guest(arg + offsetof(struct xen_memory_exchange, nr_exchanged),
                      &x.nr_exchanged, sizeof(x.nr_exchanged)))
        return -XEN_EFAULT;
    return rc;
}

static int memory_map(uint64_t arg)
{
    struct xen_memory_map map;
    struct {
        uint64_t addr, size;
        uint32_t type;
    } __attribute__((packed)) entry = {
        .size = shared->guest_nr_pages << PAGE_SHIFT, .type = 1, /* E820_RAM */
    };

    if (copy_from_guest(&map, arg, sizeof(map)))
        return -XEN_EFAULT;
    if (map.nr_entries < 1)
        return -XEN_EINVAL;
    map.nr_entries = 1;
    if (copy_to_guest((uint64_t)map.buffer.p, &entry, sizeof(entry)) ||
        copy_to_guest(arg, &map, sizeof(map)))
        return -XEN_EFAULT;
    return 0;
}

static int machphys_mapping(uint64_t arg)
{
    struct xen_machphys_mapping m = {
        .v_start = M2P_VIRT,
        .v_end = M2P_VIRT + shared->m2p_nr_entries * sizeof(*m2p),
        .max_mfn = shared->m2p_nr_entries - 1,
    };

    return copy_to_guest(arg, &m, sizeof(m));
}

static int64_t with_domid(uint64_t arg, uint64_t value)
{
    domid_t dom;

    if (copy_from_guest(&dom, arg, sizeof(dom)))
        return -XEN_EFAULT;
    return is_self(dom) ? (int64_t)value : -XEN_ESRCH;
}

int64_t do_memory_op(struct vcpu *v, guest_word cmd, guest_word arg,
                     guest_word a3, guest_word a4, guest_word a5)
{
    uint64_t op = cmd & ((1UL << MEMOP_EXTENT_SHIFT) - 1);
    uint64_t first = cmd >> MEMOP_EXTENT_SHIFT;

    switch (op) {
    case XENMEM_increase_reservation:
        return increase(v, arg, first);
    case XENMEM_decrease_reservation:
        return decrease(v, arg, first);
    case XENMEM_populate_physmap:
        return populate(v, arg, first);
    default:
        break;
    }
    if (first) /* Nothing else is done in parts. */
        return -XEN_EINVAL;
    switch (op) {
    case XENMEM_exchange:
        return exchange(arg);
    case XENMEM_maximum_ram_page:
        return (int64_t)shared->machine_nr_pages;
    case XENMEM_current_reservation:
        return with_domid(arg, current_pages());
    case XENMEM_maximum_reservation:
        return with_domid(arg, shared->guest_nr_pages);
    case XENMEM_maximum_gpfn:
        return with_domid(arg, shared->guest_nr_pages - 1);
    case XENMEM_memory_map:
        return memory_map(arg);
    case XENMEM_machphys_mapping:
        return machphys_mapping(arg);
    default:
        return refuse_memory_op(op, arg);
    }
}
