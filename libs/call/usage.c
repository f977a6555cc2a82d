/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage.h"

#include <dirent.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "abi/emu.h"
#include "abi/layout.h"
#include "libs/client/vmcore.h"

#define NS_PER_S UINT64_C(1000000000)
#define M2P_CHUNK 4096 /* entries read at a time */

uint32_t host_nr_cpus(void)
{
    long nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);

    return nr_cpus > 0 ? (uint32_t)nr_cpus : 1;
}

uint64_t host_nr_pages(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);

    return pages > 0 ? (uint64_t)pages : 0;
}

/* All that the process has run, its ended threads too. 0 if it is gone. */
static uint64_t process_ns(uint32_t pid)
{
    struct timespec used;
    clockid_t clock;

    if (!pid || clock_getcpuclockid((pid_t)pid, &clock) ||
        clock_gettime(clock, &used))
        return 0;
    return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

static bool read_core(const struct vmcore *core, void *to, size_t bytes,
                      uint64_t gpa)
{
    return pread(core->fd, to, bytes, (off_t)gpa) == (ssize_t)bytes;
}

/*
 * Pages that the M2P says are the guest's: a page given back has no entry
 * there. nr_pages is what it started with, and the most that it can be.
 */
static uint64_t count_pages(const struct vmcore *core,
                            const struct emu_shared *shared, uint64_t nr_pages)
{
    uint64_t entries[M2P_CHUNK], n = 0, end = shared->machine_nr_pages;

    if (end > shared->m2p_nr_entries)
        end = shared->m2p_nr_entries;
    if (end > core->bytes / VMCORE_PAGE_BYTES)
        return nr_pages;
    for (uint64_t mfn = shared->guest_mfn, size; mfn < end; mfn += size) {
        size = end - mfn < M2P_CHUNK ? end - mfn : M2P_CHUNK;
        if (!read_core(core, entries, size * sizeof(*entries),
                       M2P_GPA + mfn * sizeof(*entries)))
            return nr_pages;
        for (uint64_t i = 0; i < size; i++)
            n += entries[i] != ~UINT64_C(0);
    }
    return n < nr_pages ? n : nr_pages;
}

/* False before the domain's start of day: there is nothing to be read. */
static bool read_shared(const struct vmcore *core, struct emu_shared *shared)
{
    return read_core(core, shared, sizeof(*shared), EMU_SHARED_GPA) &&
           shared->magic == EMU_ABI_MAGIC && shared->version == EMU_ABI_VERSION;
}

static bool read_vcpu(const struct vmcore *core, uint32_t vcpu, uint32_t *state)
{
    return vcpu < EMU_MAX_VCPUS &&
           read_core(core, state, sizeof(*state),
                     EMU_VCPU_GPA + (uint64_t)vcpu * EMU_VCPU_BYTES +
                         offsetof(struct emu_vcpu, state));
}

static void count_vcpus(const struct vmcore *core, struct usage *usage,
                        uint32_t nr_vcpus)
{
    uint32_t state;

    usage->nr_vcpus = usage->nr_unblocked = 0;
    for (uint32_t i = 0; i < nr_vcpus && read_vcpu(core, i, &state); i++) {
        usage->nr_vcpus += !!(state & EMU_VCPU_UP);
        usage->nr_unblocked +=
            state & EMU_VCPU_UP && !(state & EMU_VCPU_BLOCKED);
    }
}

void domain_usage(struct usage *usage, const struct evtchnd_domain *domain)
{
    struct emu_shared shared;
    struct vmcore core;

    *usage = (struct usage){
        .nr_pages = domain->nr_pages,
        .cpu_ns = process_ns(domain->pid),
        .nr_vcpus = domain->nr_vcpus,
        .nr_unblocked = 1,
    };
    if (vmcore_open(&core, domain->domid, true))
        return;
    if (read_shared(&core, &shared)) {
        usage->nr_pages = count_pages(&core, &shared, domain->nr_pages);
        count_vcpus(&core, usage, domain->nr_vcpus);
        usage->is_paused = shared.is_paused;
    }
    close(core.fd);
}

/* Time of the host's CPUs that was nobody's idling and no guest's (proc(5)). */
static uint64_t host_ns(void)
{
    uint64_t user, nice, system, irq, softirq, guest, guest_nice, ticks = 0;
    FILE *file = fopen("/proc/stat", "re");
    long hz = sysconf(_SC_CLK_TCK);

    if (!file)
        return 0;
    if (fscanf(file,
               "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %*u %*u %" SCNu64
               " %" SCNu64 " %*u %" SCNu64 " %" SCNu64,
               &user, &nice, &system, &irq, &softirq, &guest, &guest_nice) == 7)
        ticks = user + nice + system + irq + softirq - guest - guest_nice;
    fclose(file);
    return ticks * (NS_PER_S / (hz > 0 ? (uint64_t)hz : 100));
}

void host_usage(struct usage *usage)
{
    *usage = (struct usage){
        .nr_pages = host_nr_pages(),
        .cpu_ns = host_ns(),
        .nr_vcpus = host_nr_cpus(),
        .nr_unblocked = host_nr_cpus(),
    };
}

/* The thread of that name; the VM process calls those of its vCPUs "vcpuN". */
static uint32_t find_thread(uint32_t pid, const char *wanted)
{
    char path[64], name[32] = "";
    uint32_t found = 0;
    struct dirent *entry;
    DIR *tasks;

    snprintf(path, sizeof(path), "/proc/%u/task", pid);
    tasks = opendir(path);
    while (tasks && !found && (entry = readdir(tasks))) {
        uint32_t tid = (uint32_t)strtoul(entry->d_name, NULL, 10);
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%u/task/%u/comm", pid, tid);
        file = tid ? fopen(path, "re") : NULL;
        if (!file)
            continue;
        if (fscanf(file, "%31[^\n]", name) == 1 && !strcmp(name, wanted))
            found = tid;
        fclose(file);
    }
    if (tasks)
        closedir(tasks);
    return found;
}

/* A thread's time and its last CPU: /proc/PID/task/TID/{schedstat,stat}. */
static void thread_usage(struct vcpu_usage *usage, uint32_t pid, uint32_t tid)
{
    char path[64], line[512], *at;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%u/task/%u/schedstat", pid, tid);
    file = fopen(path, "re");
    if (file && fscanf(file, "%" SCNu64, &usage->cpu_ns) != 1)
        usage->cpu_ns = 0;
    if (file)
        fclose(file);
    snprintf(path, sizeof(path), "/proc/%u/task/%u/stat", pid, tid);
    file = fopen(path, "re");
    if (file && fgets(line, sizeof(line), file)) {
        /* The name is in brackets; field 39 is the 37th behind it. */
        at = strrchr(line, ')');
        for (int field = 2; at && field < 39; field++)
            at = strchr(at + 1, ' ');
        if (at)
            usage->cpu = (uint32_t)strtoul(at, NULL, 10);
    }
    if (file)
        fclose(file);
}

int vcpu_usage(struct vcpu_usage *usage, const struct evtchnd_domain *domain,
               uint32_t vcpu)
{
    uint32_t state = EMU_VCPU_UP, tid;
    struct emu_shared shared;
    struct vmcore core;
    bool is_paused = false;
    char name[16];

    *usage = (struct vcpu_usage){.cpu = vcpu};
    if (!domain->domid) {
        /* Time of the host is not told CPU by CPU. */
        usage->is_online = usage->is_running = vcpu < host_nr_cpus();
        usage->cpu_ns = host_ns() / host_nr_cpus();
        return usage->is_online ? 0 : -1;
    }
    if (vcpu >= domain->nr_vcpus)
        return -1;
    if (!vmcore_open(&core, domain->domid, true)) {
        read_vcpu(&core, vcpu, &state);
        is_paused = read_shared(&core, &shared) && shared.is_paused;
        close(core.fd);
    }
    usage->is_online = state & EMU_VCPU_UP;
    usage->is_blocked = usage->is_online && state & EMU_VCPU_BLOCKED;
    usage->is_running = usage->is_online && !usage->is_blocked && !is_paused;
    snprintf(name, sizeof(name), "vcpu%u", vcpu);
    tid = find_thread(domain->pid, name);
    if (tid)
        thread_usage(usage, domain->pid, tid);
    else
        usage->cpu_ns = process_ns(domain->pid) / domain->nr_vcpus;
    return 0;
}
