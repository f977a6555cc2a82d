/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How much of the host domains use. evtchnd knows the process of each; the
 * kernel knows its time, and its vmcore says the rest. What is read there is
 * the guest's: it is shown, and decides nothing.
 */
#ifndef LIBS_CALL_USAGE_H
#define LIBS_CALL_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/wire.h"

/* Of a whole domain. */
struct usage {
    uint64_t nr_pages; /* without those that its balloon has given back */
    uint64_t cpu_ns;   /* of all its CPUs together, since its start */
    uint32_t nr_vcpus; /* that are up */
    uint32_t nr_unblocked;
    bool is_paused; /* by its VM process: no vCPU runs */
};

struct vcpu_usage {
    bool is_online, is_blocked;
    bool is_running; /* neither blocked nor paused */
    uint64_t cpu_ns;
    uint32_t cpu; /* of the host, where it ran last */
};

/* A domain whose vmcore cannot be read is as evtchnd has it, and running. */
void domain_usage(struct usage *usage, const struct evtchnd_domain *domain);
/* The host as domain 0: all memory, all processes that are not guests. */
void host_usage(struct usage *usage);

/* 0, or -1 if the domain has no vCPU of that number. */
int vcpu_usage(struct vcpu_usage *usage, const struct evtchnd_domain *domain,
               uint32_t vcpu);

uint32_t host_nr_cpus(void);
uint64_t host_nr_pages(void);

#endif
