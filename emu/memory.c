/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memory_op. The guest's pages are its own for good: pfn p is machine page
 * pfn_to_mfn(p). Giving one back and taking it again moves only bookkeeping
 * until a balloon interface to the host exists.
 */

#include "emu/emu.h"

#define NO_PFN (~0UL)

/* Pages that the M2P says are the guest's. Counted, not remembered: rare. */
static uint64_t current_pages(void)
{
    uint64_t n = 0;

    for (uint64_t mfn = shared->guest_mfn;
         mfn < shared->machine_nr_pages && mfn < shared->m2p_nr_entries; mfn++)
        n += m2p[mfn] != NO_PFN;
    return n;
}

static int64_t decrease(uint64_t arg)
{
    struct xen_memory_reservation r;
    uint64_t i;

    if (copy_from_guest(&r, arg, sizeof(r)))
        return -XEN_EFAULT;
    if (!is_self(r.domid))
        return -XEN_EPERM;
    if (r.extent_order > 9)
        return -XEN_EINVAL;
    for (i = 0; i < r.nr_extents; i++) {
        uint64_t mfn;

        if (copy_from_guest(&mfn, (uint64_t)r.extent_start.p + i * 8, 8))
            break;
        for (uint64_t n = 0; n < 1UL << r.extent_order; n++, mfn++) {
            if (!mfn_guest(mfn) || m2p[mfn] == NO_PFN)
                return (int64_t)i;
            m2p[mfn] = NO_PFN;
        }
    }
    return (int64_t)i;
}

/* Each extent: the first pfn in, the first mfn out. */
static int64_t populate(uint64_t arg)
{
    struct xen_memory_reservation r;
    uint64_t i;

    if (copy_from_guest(&r, arg, sizeof(r)))
        return -XEN_EFAULT;
    if (!is_self(r.domid))
        return -XEN_EPERM;
    if (r.extent_order > 9)
        return -XEN_EINVAL;
    for (i = 0; i < r.nr_extents; i++) {
        uint64_t slot = (uint64_t)r.extent_start.p + i * 8, pfn, mfn;

        if (copy_from_guest(&pfn, slot, 8))
            break;
        if (pfn + (1UL << r.extent_order) > shared->guest_nr_pages ||
            pfn > shared->guest_nr_pages)
            break;
        mfn = pfn_to_mfn(pfn);
        if (m2p[mfn] != NO_PFN)
            break; /* over what the domain may have */
        for (uint64_t n = 0; n < 1UL << r.extent_order; n++) {
            memset(machine(pfn_to_mfn(pfn + n) << PAGE_SHIFT), 0, PAGE_SIZE);
            m2p[pfn_to_mfn(pfn + n)] = pfn + n;
        }
        if (copy_to_guest(slot, &mfn, 8))
            break;
    }
    return (int64_t)i;
}

/*
 * Give pages back and get others. Here the same machine pages come back
 * under the new pfns, so only exchanges of like for like can be had.
 */
static int exchange(uint64_t arg)
{
    struct xen_memory_exchange x;

    if (copy_from_guest(&x, arg, sizeof(x)))
        return -XEN_EFAULT;
    if (!is_self(x.in.domid) || !is_self(x.out.domid))
        return -XEN_EPERM;
    if (x.in.extent_order != x.out.extent_order ||
        x.in.nr_extents != x.out.nr_extents || x.in.extent_order > 9)
        return -XEN_ENOMEM;
    for (uint64_t i = x.nr_exchanged; i < x.in.nr_extents; i++) {
        uint64_t mfn, pfn, to = (uint64_t)x.out.extent_start.p + i * 8;

        if (copy_from_guest(&mfn, (uint64_t)x.in.extent_start.p + i * 8, 8) ||
            copy_from_guest(&pfn, to, 8))
            return -XEN_EFAULT;
        for (uint64_t n = 0; n < 1UL << x.in.extent_order; n++) {
            if (!mfn_guest(mfn + n) || pfn + n >= shared->guest_nr_pages)
                return -XEN_EINVAL;
            memset(machine((mfn + n) << PAGE_SHIFT), 0, PAGE_SIZE);
            m2p[mfn + n] = pfn + n;
        }
        if (copy_to_guest(to, &mfn, 8))
            return -XEN_EFAULT;
        x.nr_exchanged = i + 1;
    }
    return copy_to_guest(arg, &x, sizeof(x));
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
        .v_end = M2P_VIRT + shared->m2p_nr_entries * 8,
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

int64_t do_memory_op(struct vcpu *v, uint64_t cmd, uint64_t arg, uint64_t a3,
                     uint64_t a4, uint64_t a5)
{
    (void)v, (void)a3, (void)a4, (void)a5;
    switch (cmd & 0x3f) {
    case XENMEM_decrease_reservation:
        return decrease(arg);
    case XENMEM_populate_physmap:
        return populate(arg);
    case XENMEM_exchange:
        return exchange(arg);
    case XENMEM_maximum_ram_page:
        return (int64_t)shared->machine_nr_pages - 1;
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
        return -XEN_ENOSYS;
    }
}
