/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a vCPU's time went: vcpu.h, runstate. */
#include "emu/clock.h"

/* Steal time that KVM has seen since the last look counts as "runnable". */
static void account_steal(struct vcpu *v, uint64_t now)
{
    uint64_t steal = READ_ONCE(v->steal.steal) - v->steal_seen;
    uint64_t room = now > v->runstate.state_entry_time
                        ? now - v->runstate.state_entry_time
                        : 0;

    /* Never more than has passed; the rest is for the next look. */
    if (steal > room)
        steal = room;
    v->runstate.time[RUNSTATE_runnable] += steal;
    v->runstate.state_entry_time += steal;
    v->steal_seen += steal;
}

static void runstate_publish(struct vcpu *v)
{
    if (v->runstate_va)
        copy_to_kernel(v, v->runstate_va, &v->runstate, sizeof(v->runstate));
}

void runstate_change(struct vcpu *v, int state)
{
    uint64_t now = system_time_ns();

    WRITE_ONCE(v->runstate_version, v->runstate_version + 1);
    barrier();
    account_steal(v, now);
    if (now > v->runstate.state_entry_time)
        v->runstate.time[v->runstate.state] +=
            now - v->runstate.state_entry_time;
    v->runstate.state = state;
    v->runstate.state_entry_time = now;
    barrier();
    WRITE_ONCE(v->runstate_version, v->runstate_version + 1);
    runstate_publish(v);
}

/* Any vCPU's, with the time that it has been in its state. */
void runstate_read(struct vcpu *v, struct vcpu_runstate_info *out)
{
    uint64_t now = system_time_ns();
    uint32_t version;

    if (v == this_vcpu())
        runstate_change(v, v->runstate.state);
    do {
        version = READ_ONCE(v->runstate_version);
        barrier();
        memcpy(out, &v->runstate, sizeof(*out));
        barrier();
    } while (version & 1 || version != READ_ONCE(v->runstate_version));
    if (v != this_vcpu() && now > out->state_entry_time)
        out->time[out->state] += now - out->state_entry_time;
}
