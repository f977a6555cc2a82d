/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vCPUs that do what vCPU 0 asks for, one job after the other (workers.c). */
#ifndef TESTS_GUESTS_WORKERS_H
#define TESTS_GUESTS_WORKERS_H

#include "tests/guests/lib/guest.h"

/* Nothing here takes a tenth of it, unless it never comes. */
#define PATIENCE (20000 * 1000000UL)

/* One per vCPU; vCPU 0's is not used. */
struct worker {
    uint64_t magic; /* what %fs:0 and %gs:0 show */
    void (*job)(void);
    uint32_t done;
    evtchn_port_t wake; /* bound by vCPU 0 before it starts */
    uint64_t seen_arg, seen_fs, seen_gs, count;
};
extern struct worker workers[MAX_VCPUS];

/* How a worker begins: notes arg and its segment bases, then does jobs. */
void worker_main(uint64_t arg);

void yield(void);
/* False when it does not come. */
bool wait_for(const uint32_t *value, uint32_t want);
bool wait_state(unsigned int vcpu, int state);

/* Have a vCPU do it, without waiting. */
void post(unsigned int vcpu, void (*job)(void));
/* How many it has done; to be read before post() for wait_done(). */
uint32_t jobs_done(unsigned int vcpu);
bool wait_done(unsigned int vcpu, uint32_t before);
/* Both. */
bool run_on(unsigned int vcpu, void (*job)(void));

#endif
