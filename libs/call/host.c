/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sysctl: the host in Xen's words. */
#include "handle.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "usage.h"

#define SYS_CPU "/sys/devices/system/cpu"

/* A number out of a file of one; otherwise, if there is none. */
static uint32_t number_in(const char *path, uint32_t otherwise)
{
    FILE *file = fopen(path, "re");
    uint32_t number = otherwise;

    if (file && fscanf(file, "%u", &number) != 1)
        number = otherwise;
    if (file)
        fclose(file);
    return number;
}

static uint32_t topology(uint32_t cpu, const char *what)
{
    char path[96];

    snprintf(path, sizeof(path), SYS_CPU "/cpu%u/topology/%s", cpu, what);
    return number_in(path, 0);
}

/* How many CPUs are in a mask such as "ff,ffffffff"; at least one. */
static uint32_t siblings(const char *what)
{
    uint32_t n = 0;
    char path[96];
    FILE *file;
    int c;

    snprintf(path, sizeof(path), SYS_CPU "/cpu0/topology/%s", what);
    file = fopen(path, "re");
    while (file && (c = fgetc(file)) != EOF) {
        if (c >= '0' && c <= '9')
            n += (uint32_t)__builtin_popcount((unsigned int)(c - '0'));
        else if (c >= 'a' && c <= 'f')
            n += (uint32_t)__builtin_popcount((unsigned int)(c - 'a' + 10));
    }
    if (file)
        fclose(file);
    return n ? n : 1;
}

static uint32_t cpu_khz(void)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    double mhz = 0;

    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "cpu MHz : %lf", &mhz) == 1)
            break;
    }
    if (file)
        fclose(file);
    return (uint32_t)(mhz * 1000);
}

/* The words of Xen's featureset that have been in hw_cap[] from the start:
 * xen/include/public/arch-x86/cpufeatureset.h, words 0 to 7. */
static void features(uint32_t hw_cap[8])
{
    uint32_t a, b, c, d;

    memset(hw_cap, 0, 8 * sizeof(*hw_cap));
    if (__get_cpuid(1, &a, &b, &c, &d))
        hw_cap[0] = d, hw_cap[1] = c;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d))
        hw_cap[2] = d, hw_cap[3] = c;
    if (__get_cpuid_count(0xd, 1, &a, &b, &c, &d))
        hw_cap[4] = a;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        hw_cap[5] = b, hw_cap[6] = c;
    if (__get_cpuid(0x80000007, &a, &b, &c, &d))
        hw_cap[7] = d;
}

static long physical(struct xen_sysctl_physinfo *op)
{
    uint32_t in_core = siblings("thread_siblings");
    uint32_t in_socket = siblings("core_siblings");
    long free_pages = sysconf(_SC_AVPHYS_PAGES);

    memset(op, 0, sizeof(*op));
    op->threads_per_core = in_core;
    op->cores_per_socket = in_socket > in_core ? in_socket / in_core : 1;
    op->nr_cpus = host_nr_cpus();
    op->max_cpu_id = op->nr_cpus - 1;
    op->nr_nodes = 1;
    op->cpu_khz = cpu_khz();
    op->capabilities = XEN_SYSCTL_PHYSCAP_pv;
    op->total_pages = host_nr_pages();
    op->free_pages = free_pages > 0 ? (uint64_t)free_pages : 0;
    op->max_mfn = op->total_pages;
    features(op->hw_cap);
    return 0;
}

static long cpu_topology(struct xen_sysctl_cputopoinfo *op)
{
    struct xen_sysctl_cputopo *to = op->cputopo.p;
    uint32_t nr_cpus = host_nr_cpus();

    for (uint32_t cpu = 0; to && cpu < nr_cpus && cpu < op->num_cpus; cpu++)
        to[cpu] = (struct xen_sysctl_cputopo){
            .core = topology(cpu, "core_id"),
            .socket = topology(cpu, "physical_package_id"),
        };
    op->num_cpus = nr_cpus;
    return 0;
}

/* All memory as one node: where it lies is Linux's to say, not ours. */
static long numa(struct xen_sysctl_numainfo *op)
{
    struct xen_sysctl_meminfo *to = op->meminfo.p;
    uint32_t *distance = op->distance.p;
    long page_bytes = sysconf(_SC_PAGESIZE);

    if (to && op->num_nodes)
        *to = (struct xen_sysctl_meminfo){
            .memsize = host_nr_pages() * (uint64_t)page_bytes,
            .memfree =
                (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)page_bytes,
        };
    if (distance && op->num_nodes)
        *distance = 10; /* as ACPI's SLIT has it for a node to itself */
    op->num_nodes = 1;
    return 0;
}

long do_sysctl(xencall_handle *xcall, void *arg)
{
    struct xen_sysctl *op = arg;

    if (!is_known_version(op->interface_version))
        return -EACCES;
    switch (op->cmd) {
    case XEN_SYSCTL_getdomaininfolist:
        return domain_list(xcall, &op->u.getdomaininfolist);
    case XEN_SYSCTL_physinfo:
        return physical(&op->u.physinfo);
    case XEN_SYSCTL_cputopoinfo:
        return cpu_topology(&op->u.cputopoinfo);
    case XEN_SYSCTL_numainfo:
        return numa(&op->u.numainfo);
    case XEN_SYSCTL_sched_id:
        /* Linux's own, by weight: of Xen's the credit scheduler is nearest. */
        op->u.sched_id.sched_id = XEN_SCHEDULER_CREDIT;
        return 0;
    case XEN_SYSCTL_readconsole:
        op->u.readconsole.count = 0; /* the journal has what there is */
        return 0;
    default:
        return -ENOSYS;
    }
}
