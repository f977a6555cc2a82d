/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What Xen would tell of domains: evtchnd has the list. */
#include "handle.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define __XEN_TOOLS__ 1
#include <xen/domctl.h>
#include <xen/event_channel.h>
#include <xen/sysctl.h>

#include "abi/layout.h"

#define MAX_DOMAINS 1024

/*
 * The structures below are the same from Xen 4.16 to 4.21, though the version
 * moved, so a libxenctrl of any of these is served.
 */
static int is_known(uint32_t version)
{
    return version >= 0x14 && version <= 0x18;
}

static uint64_t host_pages(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);

    return pages > 0 ? (uint64_t)pages : 0;
}

static void fill(struct xen_domctl_getdomaininfo *info,
                 const struct evtchnd_domain *domain)
{
    memset(info, 0, sizeof(*info));
    info->domain = (domid_t)domain->domid;
    info->flags = XEN_DOMINF_running;
    if (domain->flags & EVTCHND_DOMAIN_SHUTDOWN)
        info->flags = XEN_DOMINF_shutdown | (domain->shutdown & 0xff)
                                                << XEN_DOMINF_shutdownshift;
    info->tot_pages = domain->domid ? domain->nr_pages : host_pages();
    info->max_pages = info->tot_pages;
    info->shared_info_frame = SHARED_INFO_GPA >> 12;
    info->nr_online_vcpus = domain->nr_vcpus;
    info->max_vcpu_id = domain->nr_vcpus - 1;
    memcpy(info->handle, domain->handle, sizeof(info->handle));
}

/* The first domain from domid on. */
static int next_domain(xencall_handle *xcall, uint32_t domid,
                       struct xen_domctl_getdomaininfo *info)
{
    struct evtchnd_request request = {
        .type = EVTCHND_DOMAIN_INFO,
        .dom = domid,
    };
    struct evtchnd_reply reply;
    int rc = call_evtchnd(xcall, &request, &reply);

    if (!rc)
        fill(info, &reply.domain);
    return rc;
}

long do_domctl(xencall_handle *xcall, void *arg)
{
    struct xen_domctl *op = arg;
    int rc;

    if (!is_known(op->interface_version))
        return -EACCES;
    if (op->cmd != XEN_DOMCTL_getdomaininfo)
        return -ENOSYS;
    rc = next_domain(xcall, op->domain, &op->u.getdomaininfo);
    if (!rc)
        op->domain = op->u.getdomaininfo.domain;
    return rc;
}

static long domain_list(xencall_handle *xcall,
                        struct xen_sysctl_getdomaininfolist *op)
{
    struct xen_domctl_getdomaininfo *to = op->buffer.p, info;
    uint32_t domid = op->first_domain;
    uint32_t most =
        op->max_domains < MAX_DOMAINS ? op->max_domains : MAX_DOMAINS;
    int rc = 0;

    for (op->num_domains = 0; op->num_domains < most; op->num_domains++) {
        rc = next_domain(xcall, domid, &info);
        if (rc)
            break;
        to[op->num_domains] = info;
        domid = info.domain + 1U;
    }
    return rc == -ESRCH ? 0 : rc;
}

static long physical(struct xen_sysctl_physinfo *op)
{
    long nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    long free_pages = sysconf(_SC_AVPHYS_PAGES);

    memset(op, 0, sizeof(*op));
    op->threads_per_core = op->cores_per_socket = op->nr_nodes = 1;
    op->nr_cpus = nr_cpus > 0 ? (uint32_t)nr_cpus : 1;
    op->max_cpu_id = op->nr_cpus - 1;
    op->capabilities = XEN_SYSCTL_PHYSCAP_pv;
    op->total_pages = host_pages();
    op->free_pages = free_pages > 0 ? (uint64_t)free_pages : 0;
    op->max_mfn = op->total_pages;
    return 0;
}

long do_sysctl(xencall_handle *xcall, void *arg)
{
    struct xen_sysctl *op = arg;

    if (!is_known(op->interface_version))
        return -EACCES;
    switch (op->cmd) {
    case XEN_SYSCTL_getdomaininfolist:
        return domain_list(xcall, &op->u.getdomaininfolist);
    case XEN_SYSCTL_physinfo:
        return physical(&op->u.physinfo);
    default:
        return -ENOSYS;
    }
}

static long status(xencall_handle *xcall, struct evtchn_status *op)
{
    struct evtchnd_request request = {
        .type = EVTCHND_STATUS,
        .dom = op->dom,
        .port = op->port,
    };
    struct evtchnd_reply reply;
    int rc = call_evtchnd(xcall, &request, &reply);

    if (rc)
        return rc;
    op->status = reply.status;
    op->vcpu = reply.vcpu;
    if (reply.status == EVTCHNSTAT_unbound) {
        op->u.unbound.dom = (domid_t)reply.remote_dom;
    } else if (reply.status == EVTCHNSTAT_interdomain) {
        op->u.interdomain.dom = (domid_t)reply.remote_dom;
        op->u.interdomain.port = reply.remote_port;
    } else if (reply.status == EVTCHNSTAT_virq) {
        op->u.virq = reply.virq;
    }
    return 0;
}

/* Of another domain: one of our own would end with this connection. */
static long alloc_unbound(xencall_handle *xcall,
                          struct evtchn_alloc_unbound *op)
{
    struct evtchnd_request request = {
        .type = EVTCHND_ALLOC_UNBOUND,
        .dom = op->dom,
        .remote_dom = op->remote_dom,
    };
    struct evtchnd_reply reply;
    int rc = call_evtchnd(xcall, &request, &reply);

    if (!rc)
        op->port = reply.port;
    return rc;
}

long do_event_channel_op(xencall_handle *xcall, unsigned int cmd, void *arg)
{
    struct evtchnd_request request = {.type = EVTCHND_RESET};
    struct evtchnd_reply reply;

    switch (cmd) {
    case EVTCHNOP_status:
        return status(xcall, arg);
    case EVTCHNOP_alloc_unbound:
        return alloc_unbound(xcall, arg);
    case EVTCHNOP_reset:
        request.dom = ((struct evtchn_reset *)arg)->dom;
        return call_evtchnd(xcall, &request, &reply);
    default:
        return -ENOSYS;
    }
}
