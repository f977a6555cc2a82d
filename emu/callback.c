/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest registers to be called at: callbacks and the trap table. */

#include "emu/emu.h"

/*
 * Where 32-bit code is interpreted (EMU_QUIRK_SLOW_RING0) its fast ways into
 * the kernel are not offered: Linux then has such programs use int 0x80.
 */
static int set_callback(struct vcpu *v, uint32_t type, uint64_t rip,
                        uint32_t flags)
{
    struct callback c = {
        .rip = rip,
        .mask_events = (flags & CALLBACKF_mask_events) != 0,
    };

    if (!canonical(rip))
        return -XEN_EINVAL;
    switch (type) {
    case CALLBACKTYPE_event:
        c.mask_events = 1;
        v->event_callback = c;
        return 0;
    case CALLBACKTYPE_failsafe:
        v->failsafe_callback = c;
        return 0;
    case CALLBACKTYPE_syscall:
        v->syscall_callback = c;
        return 0;
    case CALLBACKTYPE_syscall32:
        if (slow_ring0())
            return -XEN_ENOSYS;
        v->syscall32_callback = c;
        return 0;
    case CALLBACKTYPE_sysenter:
        if (slow_ring0())
            return -XEN_ENOSYS;
        v->sysenter_callback = c;
        return 0;
    case CALLBACKTYPE_nmi:
        c.mask_events = 1;
        v->nmi_callback = c;
        return 0;
    default:
        return -XEN_ENOSYS;
    }
}

/* As Xen: only the NMI's can go away. */
static int unset_callback(struct vcpu *v, uint32_t type)
{
    switch (type) {
    case CALLBACKTYPE_event:
    case CALLBACKTYPE_failsafe:
    case CALLBACKTYPE_syscall:
    case CALLBACKTYPE_syscall32:
    case CALLBACKTYPE_sysenter:
        return -XEN_EINVAL;
    case CALLBACKTYPE_nmi:
        return set_callback(v, type, 0, 0);
    default:
        return -XEN_ENOSYS;
    }
}

int64_t do_callback_op(struct vcpu *v, guest_word cmd, guest_word arg,
                       guest_word a3, guest_word a4, guest_word a5)
{
    struct callback_register r;
    struct callback_unregister u;

    switch (cmd) {
    case CALLBACKOP_register:
        if (copy_from_guest(&r, arg, sizeof(r)))
            return -XEN_EFAULT;
        return set_callback(v, r.type, r.address, r.flags);
    case CALLBACKOP_unregister:
        if (copy_from_guest(&u, arg, sizeof(u)))
            return -XEN_EFAULT;
        return unset_callback(v, u.type);
    default:
        return -XEN_ENOSYS;
    }
}

int64_t do_set_callbacks(struct vcpu *v, guest_word event, guest_word failsafe,
                         guest_word syscall, guest_word a4, guest_word a5)
{
    if (!canonical(event) || !canonical(failsafe) || !canonical(syscall))
        return -XEN_EINVAL;
    set_callback(v, CALLBACKTYPE_event, event, 0);
    set_callback(v, CALLBACKTYPE_failsafe, failsafe, 0);
    set_callback(v, CALLBACKTYPE_syscall, syscall, 0);
    return 0;
}

int64_t do_nmi_op(struct vcpu *v, guest_word cmd, guest_word arg, guest_word a3,
                  guest_word a4, guest_word a5)
{
    struct xennmi_callback c;

    switch (cmd) {
    case XENNMI_register_callback:
        if (copy_from_guest(&c, arg, sizeof(c)))
            return -XEN_EFAULT;
        return set_callback(v, CALLBACKTYPE_nmi, c.handler_address, 0);
    case XENNMI_unregister_callback:
        return set_callback(v, CALLBACKTYPE_nmi, 0, 0);
    default:
        return -XEN_ENOSYS;
    }
}

int64_t do_set_trap_table(struct vcpu *v, guest_word table, guest_word a2,
                          guest_word a3, guest_word a4, guest_word a5)
{
    if (!table) {
        memset(v->traps, 0, sizeof(v->traps));
        return 0;
    }
    for (unsigned int i = 0; i <= 256; i++) {
        trap_info_t t;

        if (copy_from_guest(&t, table + i * sizeof(t), sizeof(t)))
            return -XEN_EFAULT;
        if (!t.address)
            return 0;
        if (!canonical(t.address))
            return -XEN_EINVAL;
        v->traps[t.vector] = t;
    }
    return 0;
}
