/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What Xen would tell of domains: evtchnd has the list. */
#include "handle.h"

#include <errno.h>
#include <string.h>

#include "abi/layout.h"
#include "usage.h"

#define MAX_DOMAINS 1024

/*
 * The structures used here are the same from Xen 4.16 to 4.21, though the
 * versions moved, so a libxenctrl of any of these is served.
 */
bool is_known_version(uint32_t version)
{
    return version >= 0x14 && version <= 0x18;
}

/* A paused one may be blocked as well: then it waits for two things. */
static uint32_t flags_of(const struct evtchnd_domain *domain,
                         const struct usage *usage)
{
    uint32_t flags = usage->is_paused ? XEN_DOMINF_paused : 0;

    if (domain->flags & EVTCHND_DOMAIN_SHUTDOWN)
        return flags | XEN_DOMINF_shutdown |
               (domain->shutdown & 0xff) << XEN_DOMINF_shutdownshift;
    if (usage->nr_unblocked)
        return flags | (usage->is_paused ? 0 : XEN_DOMINF_running);
    return flags | (usage->nr_vcpus ? XEN_DOMINF_blocked : 0);
}

static void fill(struct xen_domctl_getdomaininfo *info,
                 const struct evtchnd_domain *domain)
{
    struct usage usage;
    uint32_t nr_vcpus;

    if (domain->domid)
        domain_usage(&usage, domain);
    else
        host_usage(&usage);
    memset(info, 0, sizeof(*info));
    info->domain = (domid_t)domain->domid;
    info->flags = flags_of(domain, &usage);
    info->tot_pages = usage.nr_pages;
    info->max_pages = domain->domid ? domain->nr_pages : usage.nr_pages;
    info->shared_info_frame = SHARED_INFO_GPA >> 12;
    info->cpu_time = usage.cpu_ns;
    info->nr_online_vcpus = usage.nr_vcpus;
    /* Those that are down count as well, and a guest may say that all are. */
    nr_vcpus = domain->domid ? domain->nr_vcpus : usage.nr_vcpus;
    info->max_vcpu_id = nr_vcpus ? nr_vcpus - 1 : 0;
    memcpy(info->handle, domain->handle, sizeof(info->handle));
}

/* The first domain from domid on. */
static int next_domain(xencall_handle *xcall, uint32_t domid,
                       struct evtchnd_domain *domain)
{
    struct evtchnd_request request = {
        .type = EVTCHND_DOMAIN_INFO,
        .dom = domid,
    };
    struct evtchnd_reply reply;
    int rc = call_evtchnd(xcall, &request, &reply);

    if (!rc)
        *domain = reply.domain;
    return rc;
}

static int the_domain(xencall_handle *xcall, uint32_t domid,
                      struct evtchnd_domain *domain)
{
    int rc = next_domain(xcall, domid, domain);

    return !rc && domain->domid != domid ? -ESRCH : rc;
}

static long domain_info(xencall_handle *xcall, struct xen_domctl *op)
{
    struct evtchnd_domain domain;
    int rc = next_domain(xcall, op->domain, &domain);

    if (rc)
        return rc;
    fill(&op->u.getdomaininfo, &domain);
    op->domain = op->u.getdomaininfo.domain;
    return 0;
}

static long vcpu_info(xencall_handle *xcall, uint32_t domid,
                      struct xen_domctl_getvcpuinfo *op)
{
    struct evtchnd_domain domain;
    struct vcpu_usage usage;
    int rc = the_domain(xcall, domid, &domain);

    if (rc)
        return rc;
    if (vcpu_usage(&usage, &domain, op->vcpu))
        return -ESRCH; /* Xen's for a vCPU that is not there */
    op->online = usage.is_online;
    op->blocked = usage.is_blocked;
    op->running = usage.is_running;
    op->cpu_time = usage.cpu_ns;
    op->cpu = usage.cpu;
    return 0;
}

/* Nobody is pinned by us: all of the host's CPUs that there is room for. */
static void all_cpus(struct xenctl_bitmap *map)
{
    uint32_t nr_cpus = host_nr_cpus();
    uint8_t *bits = map->bitmap.p;

    if (!bits)
        return;
    memset(bits, 0, (map->nr_bits + 7) / 8);
    for (uint32_t cpu = 0; cpu < nr_cpus && cpu < map->nr_bits; cpu++)
        bits[cpu / 8] |= (uint8_t)(1U << cpu % 8);
}

static long vcpu_affinity(xencall_handle *xcall, uint32_t domid,
                          struct xen_domctl_vcpuaffinity *op)
{
    struct evtchnd_domain domain;
    struct vcpu_usage usage;
    int rc = the_domain(xcall, domid, &domain);

    if (rc)
        return rc;
    if (vcpu_usage(&usage, &domain, op->vcpu))
        return -ESRCH;
    if (op->flags & XEN_VCPUAFFINITY_HARD)
        all_cpus(&op->cpumap_hard);
    if (op->flags & XEN_VCPUAFFINITY_SOFT)
        all_cpus(&op->cpumap_soft);
    return 0;
}

long do_domctl(xencall_handle *xcall, void *arg)
{
    struct xen_domctl *op = arg;

    if (!is_known_version(op->interface_version))
        return -EACCES;
    switch (op->cmd) {
    case XEN_DOMCTL_getdomaininfo:
        return domain_info(xcall, op);
    case XEN_DOMCTL_getvcpuinfo:
        return vcpu_info(xcall, op->domain, &op->u.getvcpuinfo);
    case XEN_DOMCTL_getvcpuaffinity:
        return vcpu_affinity(xcall, op->domain, &op->u.vcpuaffinity);
    default:
        return -ENOSYS;
    }
}

long domain_list(xencall_handle *xcall, struct xen_sysctl_getdomaininfolist *op)
{
    struct xen_domctl_getdomaininfo *to = op->buffer.p;
    struct evtchnd_domain domain;
    uint32_t domid = op->first_domain;
    uint32_t most =
        op->max_domains < MAX_DOMAINS ? op->max_domains : MAX_DOMAINS;
    int rc = 0;

    if (!to && most)
        return -EFAULT;
    for (op->num_domains = 0; op->num_domains < most; op->num_domains++) {
        rc = next_domain(xcall, domid, &domain);
        if (rc)
            break;
        fill(&to[op->num_domains], &domain);
        domid = domain.domid + 1U;
    }
    return rc == -ESRCH ? 0 : rc;
}
