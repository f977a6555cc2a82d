/* SPDX-License-Identifier: GPL-2.0-or-later */
/* physdev_op: of a domain without a device, its I/O privilege. */

#include "emu/emu.h"

#define IOBITMAP_BYTES 8192UL /* of all ports */

int64_t do_physdev_op(struct vcpu *v, guest_word cmd, guest_word arg,
                      guest_word a3, guest_word a4, guest_word a5)
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

int64_t do_physdev_op_compat(struct vcpu *v, guest_word arg, guest_word a2,
                             guest_word a3, guest_word a4, guest_word a5)
{
    physdev_op_t op;

    if (copy_from_guest(&op, arg, sizeof(op)))
        return -XEN_EFAULT;
    return do_physdev_op(v, op.cmd, arg + offsetof(physdev_op_t, u), a3, a4,
                         a5);
}
