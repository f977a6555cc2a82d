/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vCPUs that wait for a job, do it, and count. */
#include "tests/guests/lib/workers.h"

struct worker workers[MAX_VCPUS];

void yield(void)
{
    CALL(sched_op, SCHEDOP_yield, 0);
}

bool wait_for(const uint32_t *value, uint32_t want)
{
    uint64_t end = system_time_ns() + PATIENCE;

    while (READ_ONCE(*value) != want) {
        if (system_time_ns() > end)
            return false;
        yield();
    }
    return true;
}

bool wait_state(unsigned int vcpu, int state)
{
    struct vcpu_runstate_info info = {.state = -1};
    uint64_t end = system_time_ns() + PATIENCE;

    do {
        if (CALL(vcpu_op, VCPUOP_get_runstate_info, vcpu, &info))
            return false;
        if (info.state == state)
            return true;
        yield();
    } while (system_time_ns() < end);
    return false;
}

void worker_main(uint64_t arg)
{
    struct worker *w = &workers[this_vcpu()];

    w->seen_arg = arg;
    __asm__ volatile("movq %%fs:0, %0" : "=r"(w->seen_fs));
    __asm__ volatile("movq %%gs:0, %0" : "=r"(w->seen_gs));
    use_vcpu_info(&shared->vcpu_info[this_vcpu()]);
    CALL(vcpu_op, VCPUOP_stop_periodic_timer, this_vcpu(), 0);
    __atomic_fetch_add(&w->done, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        void (*job)(void) =
            __atomic_exchange_n(&w->job, NULL, __ATOMIC_SEQ_CST);

        if (job) {
            job();
            events_disable();
            __atomic_fetch_add(&w->done, 1, __ATOMIC_SEQ_CST);
        } else {
            CALL(sched_op, SCHEDOP_block, 0);
            events_disable();
        }
    }
}

void post(unsigned int vcpu, void (*job)(void))
{
    __atomic_store_n(&workers[vcpu].job, job, __ATOMIC_SEQ_CST);
    evtchn_send(workers[vcpu].wake);
}

uint32_t jobs_done(unsigned int vcpu)
{
    return READ_ONCE(workers[vcpu].done);
}

bool wait_done(unsigned int vcpu, uint32_t before)
{
    return wait_for(&workers[vcpu].done, before + 1);
}

bool run_on(unsigned int vcpu, void (*job)(void))
{
    uint32_t before = jobs_done(vcpu);

    post(vcpu, job);
    return wait_done(vcpu, before);
}
