/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What Xen does not give to a domain without privilege, and what it has not
 * here: refused with Xen's errors, in Xen's order.
 */
#define __XEN_TOOLS__ 1
#include <stdint.h>

#include <xen/domctl.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/platform.h>
#include <xen/sysctl.h>

#include "tests/guests/lib/guest.h"

#include <xen/grant_table.h>

const char guest_name[] = "refused";

/* No domain of any test. */
#define NOBODY 0x7abc

static void test_toolstack(void)
{
    static struct xen_sysctl sysctl;
    static struct xen_domctl domctl;
    static struct xen_platform_op platform;
    struct xen_dm_op_buf buffers[2] = {0};

    check_rc("sysctl: bad pointer", CALL(sysctl, BAD_POINTER), -XEN_EFAULT);
    check_rc("sysctl: version", CALL(sysctl, &sysctl), -XEN_EACCES);
    sysctl.cmd = XEN_SYSCTL_physinfo;
    sysctl.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    check_rc("sysctl", CALL(sysctl, &sysctl), -XEN_EPERM);
    check_rc("domctl: bad pointer", CALL(domctl, BAD_POINTER), -XEN_EFAULT);
    check_rc("domctl: version", CALL(domctl, &domctl), -XEN_EACCES);
    domctl.cmd = XEN_DOMCTL_getdomaininfo;
    domctl.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    check_rc("domctl: domain 0", CALL(domctl, &domctl), -XEN_EPERM);
    domctl.domain = NOBODY;
    check_rc("domctl: nobody", CALL(domctl, &domctl), -XEN_ESRCH);
    domctl.domain = DOMID_SELF;
    check_rc("domctl: DOMID_SELF", CALL(domctl, &domctl), -XEN_ESRCH);
    domctl.cmd = XEN_DOMCTL_createdomain;
    domctl.domain = NOBODY;
    check_rc("domctl: create", CALL(domctl, &domctl), -XEN_EPERM);
    check_rc("platform_op: bad pointer", CALL(platform_op, BAD_POINTER),
             -XEN_EFAULT);
    check_rc("platform_op: version", CALL(platform_op, &platform), -XEN_EACCES);
    platform.interface_version = XENPF_INTERFACE_VERSION;
    check_rc("platform_op", CALL(platform_op, &platform), -XEN_EPERM);
    check_rc("kexec_op", CALL(kexec_op, 0, BAD_POINTER), -XEN_EPERM);
    check_rc("hypfs_op", CALL(hypfs_op, 0, 0, 0, 0, 0), -XEN_EPERM);
    check_rc("mca", CALL(arch_0, BAD_POINTER), -XEN_EPERM);
    check_rc("xenpmu_op", CALL(xenpmu_op, 0, BAD_POINTER), -XEN_EOPNOTSUPP);
    check_rc("dm_op: no buffer", CALL(dm_op, DOMID_SELF, 0, 0), -XEN_ENODATA);
    check_rc("dm_op: three", CALL(dm_op, DOMID_SELF, 3, buffers), -XEN_E2BIG);
    check_rc("dm_op: bad pointer", CALL(dm_op, DOMID_SELF, 2, BAD_POINTER),
             -XEN_EFAULT);
    check_rc("dm_op: oneself", CALL(dm_op, DOMID_SELF, 2, buffers), -XEN_EPERM);
    check_rc("dm_op: nobody", CALL(dm_op, NOBODY, 2, buffers), -XEN_ESRCH);
}

static void test_hvm_op(void)
{
    struct xen_hvm_param param = {.domid = DOMID_SELF};
    struct xen_hvm_get_time now = {0};
    uint64_t before = system_time_ns();

    check_rc("get_time", CALL(hvm_op, HVMOP_get_time, &now), 0);
    check(now.now >= before && now.now <= system_time_ns(), "it is now",
          "%lu after %lu", now.now, before);
    check_rc("get_time: bad pointer", CALL(hvm_op, HVMOP_get_time, BAD_POINTER),
             -XEN_EFAULT);
    check_rc("get_param", CALL(hvm_op, HVMOP_get_param, &param), -XEN_EINVAL);
    check_rc("set_param", CALL(hvm_op, HVMOP_set_param, &param), -XEN_EINVAL);
    check_rc("set_param: bad pointer",
             CALL(hvm_op, HVMOP_set_param, BAD_POINTER), -XEN_EFAULT);
    param.domid = NOBODY;
    check_rc("get_param: nobody", CALL(hvm_op, HVMOP_get_param, &param),
             -XEN_ESRCH);
    check_rc("flush_tlbs", CALL(hvm_op, HVMOP_flush_tlbs, 0), -XEN_EINVAL);
    check_rc("altp2m", CALL(hvm_op, HVMOP_altp2m, 0), -XEN_EOPNOTSUPP);
    check_rc("no such", CALL(hvm_op, 99, 0), -XEN_ENOSYS);
}

static void test_memory_op(void)
{
    struct xen_add_to_physmap map = {.domid = DOMID_SELF};
    struct xen_vnuma_topology_info vnuma = {.domid = DOMID_SELF};
    struct xen_pod_target pod = {.domid = DOMID_SELF};
    struct xen_mem_acquire_resource resource = {.domid = DOMID_SELF};
    struct xen_memory_reservation claim = {.domid = DOMID_SELF};

    check_rc("machine_memory_map",
             CALL(memory_op, XENMEM_machine_memory_map, BAD_POINTER),
             -XEN_EPERM);
    check_rc("add_to_physmap", CALL(memory_op, XENMEM_add_to_physmap, &map),
             -XEN_EACCES);
    map.domid = NOBODY;
    check_rc("add_to_physmap: nobody",
             CALL(memory_op, XENMEM_add_to_physmap, &map), -XEN_ESRCH);
    check_rc("remove_from_physmap: bad pointer",
             CALL(memory_op, XENMEM_remove_from_physmap, BAD_POINTER),
             -XEN_EFAULT);
    check_rc("get_vnumainfo", CALL(memory_op, XENMEM_get_vnumainfo, &vnuma),
             -XEN_EOPNOTSUPP);
    check_rc("get_pod_target", CALL(memory_op, XENMEM_get_pod_target, &pod),
             -XEN_EINVAL);
    check_rc("acquire_resource",
             CALL(memory_op, XENMEM_acquire_resource, &resource), -XEN_EPERM);
    check_rc("claim_pages", CALL(memory_op, XENMEM_claim_pages, &claim),
             -XEN_EPERM);
}

static void test_physdev_op(void)
{
    struct physdev_apic apic = {0};
    struct physdev_eoi eoi = {.irq = 1};
    struct physdev_map_pirq map = {.domid = DOMID_SELF};

    check_rc("apic_read", CALL(physdev_op, PHYSDEVOP_apic_read, &apic),
             -XEN_EPERM);
    check_rc("apic_write: bad pointer",
             CALL(physdev_op, PHYSDEVOP_apic_write, BAD_POINTER), -XEN_EFAULT);
    check_rc("map_pirq", CALL(physdev_op, PHYSDEVOP_map_pirq, &map),
             -XEN_EPERM);
    check_rc("eoi", CALL(physdev_op, PHYSDEVOP_eoi, &eoi), -XEN_EINVAL);
}

static void test_others(void)
{
    struct sched_remote_shutdown shut = {.domain_id = DOMID_SELF};
    struct evtchn_bind_pirq pirq = {.pirq = 1};
    struct vcpu_get_physid physid = {0};

    check_rc("remote_shutdown: DOMID_SELF",
             CALL(sched_op, SCHEDOP_remote_shutdown, &shut), -XEN_ESRCH);
    shut.domain_id = 0;
    check_rc("remote_shutdown: domain 0",
             CALL(sched_op, SCHEDOP_remote_shutdown, &shut), -XEN_EPERM);
    check_rc("remote_shutdown: bad pointer",
             CALL(sched_op, SCHEDOP_remote_shutdown, BAD_POINTER), -XEN_EFAULT);
    check_rc("bind_pirq", CALL(event_channel_op, EVTCHNOP_bind_pirq, &pirq),
             -XEN_EPERM);
    check_rc("bind_pirq: bad pointer",
             CALL(event_channel_op, EVTCHNOP_bind_pirq, BAD_POINTER),
             -XEN_EFAULT);
    check_rc("get_physid", CALL(vcpu_op, VCPUOP_get_physid, 0, &physid),
             -XEN_EINVAL);
}

static void test_grants(void)
{
    struct gnttab_map_grant_ref map[2] = {{.dom = 0, .status = 7},
                                          {.dom = NOBODY, .status = 7}};
    struct gnttab_unmap_grant_ref unmap = {.handle = 3};
    struct gnttab_unmap_and_replace replace = {.handle = 3};
    struct gnttab_transfer transfer = {.domid = 0};
    struct gnttab_get_status_frames frames = {.dom = DOMID_SELF};

    check_rc("map", CALL(grant_table_op, GNTTABOP_map_grant_ref, map, 2), 0);
    check(map[0].status == GNTST_bad_domain && map[1].status == map[0].status,
          "map: no such domain", "%d, %d", map[0].status, map[1].status);
    check_rc("map: bad pointer",
             CALL(grant_table_op, GNTTABOP_map_grant_ref, BAD_POINTER, 1),
             -XEN_EFAULT);
    check_rc("map: none", CALL(grant_table_op, GNTTABOP_map_grant_ref, 0, 0),
             0);
    CALL(grant_table_op, GNTTABOP_unmap_grant_ref, &unmap, 1);
    check_rc("unmap: no such handle", unmap.status, GNTST_bad_handle);
    CALL(grant_table_op, GNTTABOP_unmap_and_replace, &replace, 1);
    check_rc("replace: no such handle", replace.status, GNTST_bad_handle);
    CALL(grant_table_op, GNTTABOP_transfer, &transfer, 1);
    check_rc("transfer: no such domain", transfer.status, GNTST_bad_domain);
    CALL(grant_table_op, GNTTABOP_get_status_frames, &frames, 1);
    check_rc("version 2's frames", frames.status, GNTST_general_error);
    check_rc("two of them",
             CALL(grant_table_op, GNTTABOP_get_status_frames, &frames, 2),
             -XEN_EINVAL);
}

void guest_main(void)
{
    test_toolstack();
    test_hvm_op();
    test_memory_op();
    test_physdev_op();
    test_others();
    test_grants();
}
