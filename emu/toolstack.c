/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a domain without privilege may not ask, refused as Xen 4.17 refuses
 * it: in its order, so that who tries learns the same. docs/hypercalls.md has
 * the whole list.
 */
#define __XEN_TOOLS__ 1
#include <stddef.h>
#include <stdint.h>

#include <xen/domctl.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/platform.h>
#include <xen/sysctl.h>

#include "emu/clock.h"

/* How the structures of sysctl, domctl and platform_op begin. */
struct head {
    uint32_t cmd, interface_version;
    domid_t domain; /* domctl's */
};

#define DM_OP_MAX_BUFFERS 2

int64_t do_platform_op(struct vcpu *v, guest_word arg, guest_word a2,
                       guest_word a3, guest_word a4, guest_word a5)
{
    struct head h;

    if (copy_from_guest(&h, arg, sizeof(h)))
        return -XEN_EFAULT;
    return h.interface_version == XENPF_INTERFACE_VERSION ? -XEN_EPERM
                                                          : -XEN_EACCES;
}

int64_t do_sysctl(struct vcpu *v, guest_word arg, guest_word a2, guest_word a3,
                  guest_word a4, guest_word a5)
{
    struct head h;

    if (copy_from_guest(&h, arg, sizeof(h)))
        return -XEN_EFAULT;
    return h.interface_version == XEN_SYSCTL_INTERFACE_VERSION ? -XEN_EPERM
                                                               : -XEN_EACCES;
}

int64_t do_domctl(struct vcpu *v, guest_word arg, guest_word a2, guest_word a3,
                  guest_word a4, guest_word a5)
{
    struct head h;

    if (copy_from_guest(&h, arg, sizeof(h)))
        return -XEN_EFAULT;
    if (h.interface_version != XEN_DOMCTL_INTERFACE_VERSION)
        return -XEN_EACCES;
    /* Who asks about a domain that is not there is told so first. */
    if (h.cmd != XEN_DOMCTL_createdomain && h.domain && !is_self(h.domain))
        return -XEN_ESRCH;
    return h.domain == DOMID_SELF ? -XEN_ESRCH : -XEN_EPERM;
}

/* kexec_op, hypfs_op and mca: whatever is asked. */
int64_t do_refused(struct vcpu *v, guest_word a1, guest_word a2, guest_word a3,
                   guest_word a4, guest_word a5)
{
    return -XEN_EPERM;
}

/* As where Xen is booted without `vpmu`. */
int64_t do_xenpmu_op(struct vcpu *v, guest_word a1, guest_word a2,
                     guest_word a3, guest_word a4, guest_word a5)
{
    return -XEN_EOPNOTSUPP;
}

int64_t do_dm_op(struct vcpu *v, guest_word domid, guest_word count,
                 guest_word arg, guest_word a4, guest_word a5)
{
    struct xen_dm_op_buf buffers[DM_OP_MAX_BUFFERS];

    count = (uint32_t)count;
    if (!count)
        return -XEN_ENODATA;
    if (count > DM_OP_MAX_BUFFERS)
        return -XEN_E2BIG;
    if (copy_from_guest(buffers, arg, count * sizeof(buffers[0])))
        return -XEN_EFAULT;
    /* No device model is its own domain's, and it has no other. */
    return is_self((domid_t)domid) ? -XEN_EPERM : -XEN_ESRCH;
}

/* For a domain that is no HVM one, most of it is invalid. */
int64_t do_hvm_op(struct vcpu *v, guest_word cmd, guest_word arg, guest_word a3,
                  guest_word a4, guest_word a5)
{
    struct xen_hvm_get_time now = {.now = system_time_ns()};
    uint16_t domid;

    switch (cmd) {
    case HVMOP_get_time:
        return copy_to_guest(arg, &now, sizeof(now));
    case HVMOP_set_param:
    case HVMOP_get_param:
    case HVMOP_get_mem_type:
    case HVMOP_pagetable_dying:
        /* Each begins with the domain. */
        if (copy_from_guest(&domid, arg, sizeof(domid)))
            return -XEN_EFAULT;
        return is_self(domid) ? -XEN_EINVAL : -XEN_ESRCH;
    case HVMOP_flush_tlbs:
    case HVMOP_set_evtchn_upcall_vector:
        return -XEN_EINVAL;
    case HVMOP_guest_request_vm_event:
        return arg ? -XEN_EINVAL : 0; /* nobody listens */
    case HVMOP_altp2m:
        return -XEN_EOPNOTSUPP;
    default:
        return -XEN_ENOSYS;
    }
}

static bool names_self(uint64_t arg, int64_t *why_not)
{
    domid_t domid;

    *why_not = -XEN_EFAULT;
    if (copy_from_guest(&domid, arg, sizeof(domid)))
        return false;
    *why_not = -XEN_ESRCH;
    return is_self(domid);
}

/* Of memory_op: what is domain 0's, and what a PV domain has no use for. */
int64_t refuse_memory_op(uint64_t cmd, uint64_t arg)
{
    int64_t rc;

    switch (cmd) {
    case XENMEM_machine_memory_map:
        return -XEN_EPERM;
    case XENMEM_add_to_physmap:
    case XENMEM_add_to_physmap_batch:
    case XENMEM_remove_from_physmap:
        /* It has its page tables itself: !paging_mode_translate(). */
        return names_self(arg, &rc) ? -XEN_EACCES : rc;
    case XENMEM_get_vnumainfo:
        return names_self(arg, &rc) ? -XEN_EOPNOTSUPP : rc;
    case XENMEM_set_pod_target:
    case XENMEM_get_pod_target:
        arg += offsetof(struct xen_pod_target, domid);
        return names_self(arg, &rc) ? -XEN_EINVAL : rc;
    case XENMEM_acquire_resource:
        return names_self(arg, &rc) ? -XEN_EPERM : rc;
    case XENMEM_claim_pages:
        arg += offsetof(struct xen_memory_reservation, domid);
        if (names_self(arg, &rc))
            return -XEN_EPERM;
        return rc == -XEN_EFAULT ? rc : -XEN_EINVAL;
    default:
        return -XEN_ENOSYS;
    }
}

/* Of physdev_op: no interrupt and no device is a guest's here. */
int64_t refuse_physdev_op(uint64_t cmd, uint64_t arg)
{
    uint32_t first;
    int64_t rc;

    switch (cmd) {
    case PHYSDEVOP_pci_mmcfg_reserved:
    case PHYSDEVOP_dbgp_op:
        return -XEN_EPERM;
    case PHYSDEVOP_eoi:
    case PHYSDEVOP_irq_status_query:
        rc = -XEN_EINVAL;
        break;
    case PHYSDEVOP_apic_read:
    case PHYSDEVOP_apic_write:
    case PHYSDEVOP_alloc_irq_vector:
    case PHYSDEVOP_map_pirq:
    case PHYSDEVOP_unmap_pirq:
    case PHYSDEVOP_manage_pci_add:
    case PHYSDEVOP_manage_pci_remove:
    case PHYSDEVOP_manage_pci_add_ext:
    case PHYSDEVOP_restore_msi:
    case PHYSDEVOP_restore_msi_ext:
    case PHYSDEVOP_setup_gsi:
    case PHYSDEVOP_pci_device_add:
    case PHYSDEVOP_pci_device_remove:
    case PHYSDEVOP_prepare_msix:
    case PHYSDEVOP_release_msix:
        rc = -XEN_EPERM;
        break;
    default:
        return -XEN_ENOSYS;
    }
    return copy_from_guest(&first, arg, sizeof(first)) ? -XEN_EFAULT : rc;
}
