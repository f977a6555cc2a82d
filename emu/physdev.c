/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hypercalls that change one word: vm_assist, physdev_op. */

#include "emu/emu.h"

/*
 * What Xen lets a 64-bit guest ask for (PV64_VM_ASSIST_MASK): some of it means
 * something to 32-bit ones alone, and writable page tables are how this
 * hypervisor always works.
 */
#define ASSISTS                               \
    (1UL << VMASST_TYPE_4gb_segments |        \
     1UL << VMASST_TYPE_4gb_segments_notify | \
     1UL << VMASST_TYPE_writable_pagetables | \
     1UL << VMASST_TYPE_pae_extended_cr3 |    \
     1UL << VMASST_TYPE_architectural_iopl |  \
     1UL << VMASST_TYPE_runstate_update_flag | 1UL << VMASST_TYPE_m2p_strict)

/* The domain's; each vCPU has it at hand. */
static void set_assist(uint64_t bit, bool enable)
{
    for (uint32_t id = 0; id < shared->nr_vcpus; id++) {
        uint64_t *assists = &vcpu_by_id(id)->vm_assist;

        if (enable)
            __atomic_fetch_or(assists, bit, __ATOMIC_SEQ_CST);
        else
            __atomic_fetch_and(assists, ~bit, __ATOMIC_SEQ_CST);
    }
}

int64_t do_vm_assist(struct vcpu *v, uint64_t cmd, uint64_t type, uint64_t a3,
                     uint64_t a4, uint64_t a5)
{
    /* Both are unsigned int. */
    type = (uint32_t)type;
    cmd = (uint32_t)cmd;
    if (type > VMASST_TYPE_m2p_strict || !(ASSISTS & 1UL << type))
        return -XEN_EINVAL;
    switch (cmd) {
    case VMASST_CMD_enable:
        set_assist(1UL << type, true);
        return 0;
    case VMASST_CMD_disable:
        set_assist(1UL << type, false);
        return 0;
    default:
        return -XEN_ENOSYS;
    }
}

#define IOBITMAP_BYTES 8192UL /* of all ports */

int64_t do_physdev_op(struct vcpu *v, uint64_t cmd, uint64_t arg, uint64_t a3,
                      uint64_t a4, uint64_t a5)
{
    struct physdev_set_iopl iopl;
    struct physdev_set_iobitmap bitmap;

    switch (cmd) {
    case PHYSDEVOP_set_iopl:
        if (copy_from_guest(&iopl, arg, sizeof(iopl)))
            return -XEN_EFAULT;
        if (iopl.iopl > 3)
            return -XEN_EINVAL;
        v->iopl = iopl.iopl;
        return 0;
    case PHYSDEVOP_set_iobitmap:
        if (copy_from_guest(&bitmap, arg, sizeof(bitmap)))
            return -XEN_EFAULT;
        if (bitmap.nr_ports > 65536 || !canonical((uint64_t)bitmap.bitmap.p) ||
            reaches_hole((uint64_t)bitmap.bitmap.p, IOBITMAP_BYTES))
            return -XEN_EINVAL;
        v->iobitmap_va = (uint64_t)bitmap.bitmap.p;
        v->iobitmap_ports = bitmap.nr_ports;
        return 0;
    default:
        return refuse_physdev_op(cmd, arg);
    }
}

int64_t do_physdev_op_compat(struct vcpu *v, uint64_t arg, uint64_t a2,
                             uint64_t a3, uint64_t a4, uint64_t a5)
{
    physdev_op_t op;

    if (copy_from_guest(&op, arg, sizeof(op)))
        return -XEN_EFAULT;
    return do_physdev_op(v, op.cmd, arg + offsetof(physdev_op_t, u), a3, a4,
                         a5);
}
