/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The clock, set_timer_op, singleshot and periodic timers, block and poll. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "timers";

#define MS 1000000UL
#define TICKS 60U
/* What a loaded host may add to any wait. */
#define SLACK (2000 * MS)

static evtchn_port_t timer;

static void test_clock(void)
{
    uint64_t last = system_time_ns(), backwards = 0, start, tsc, ns, expect;
    volatile vcpu_time_info_t *t = &vcpu_info()->time;

    for (unsigned int i = 0; i < 20000; i++) {
        uint64_t now = system_time_ns();

        backwards += now < last;
        last = now;
    }
    check_eq("system time never goes back", backwards, 0);
    start = system_time_ns();
    tsc = rdtsc();
    while (system_time_ns() - start < 50 * MS)
        ;
    ns = system_time_ns() - start;
    tsc = rdtsc() - tsc;
    expect = (uint64_t)(((unsigned __int128)(t->tsc_shift >= 0
                                                 ? tsc << t->tsc_shift
                                                 : tsc >> -t->tsc_shift) *
                         t->tsc_to_system_mul) >>
                        32);
    check(expect > ns - MS && expect < ns + 5 * MS, "rate agrees with the TSC",
          "%lu ns by the clock, %lu by the TSC", ns, expect);
    check(shared->wc_version % 2 == 0, "wall clock is not being written",
          "version %u", shared->wc_version);
}

static uint64_t wait_timer(uint64_t timeout_ns)
{
    uint64_t start = system_time_ns();

    wait_for_count(timer, event_count[timer] + 1, timeout_ns);
    return system_time_ns() - start;
}

/* The timer's event came once more, and not before the deadline. A slow host
 * may take longer for the hypercall that set it than the timer runs. */
static void check_deadline(const char *name, uint32_t before, uint64_t deadline)
{
    uint64_t now;

    wait_for_count(timer, before + 1, SLACK);
    now = system_time_ns();
    check(event_count[timer] == before + 1 && now + MS >= deadline, name,
          "%u events, %ld ns from the deadline", event_count[timer] - before,
          (long)(now - deadline));
}

/* PV guests start with a tick of 100 Hz (xen/arch/x86/pv/domain.c). */
static void test_default_tick(void)
{
    uint32_t before = event_count[timer];

    check(wait_for_count(timer, before + 3, SLACK), "ticks from the start",
          "%u events", event_count[timer] - before);
    check_rc("stop_periodic_timer",
             CALL(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0), 0);
    wait_timer(30 * MS);
    evtchn_clear(timer);
}

static void test_set_timer(void)
{
    uint32_t before = event_count[timer];
    uint64_t deadline = system_time_ns() + 20 * MS;
    uint64_t took;

    check_rc("set_timer_op", CALL(set_timer_op, deadline), 0);
    check_deadline("fires once, not early", before, deadline);
    wait_timer(60 * MS);
    check_eq("and not again", event_count[timer], before + 1);
    CALL(set_timer_op, system_time_ns() - MS);
    wait_timer(SLACK);
    check_eq("in the past: at once", event_count[timer], before + 2);
    CALL(set_timer_op, system_time_ns() + 30 * MS);
    check_rc("set to 0", CALL(set_timer_op, 0), 0);
    wait_timer(100 * MS);
    check_eq("disarmed", event_count[timer], before + 2);
    CALL(set_timer_op, system_time_ns() + 10000 * MS);
    CALL(set_timer_op, system_time_ns() + 10 * MS);
    took = wait_timer(SLACK);
    check(event_count[timer] == before + 3 && took < 5000 * MS,
          "the last setting counts", "%u events after %lu ns",
          event_count[timer] - before, took);
}

static void test_vcpu_timers(void)
{
    struct vcpu_set_singleshot_timer once = {0};
    struct vcpu_set_periodic_timer period = {.period_ns = 10 * MS};
    uint32_t before = event_count[timer];
    int64_t rc;

    once.timeout_abs_ns = system_time_ns() + 15 * MS;
    check_rc("set_singleshot_timer",
             CALL(vcpu_op, VCPUOP_set_singleshot_timer, 0, &once), 0);
    check_deadline("fires once, not early", before, once.timeout_abs_ns);
    once.timeout_abs_ns = system_time_ns() - MS;
    once.flags = VCPU_SSHOTTMR_future;
    rc = CALL(vcpu_op, VCPUOP_set_singleshot_timer, 0, &once);
    check(rc == 0 || rc == -XEN_ETIME, "VCPU_SSHOTTMR_future in the past",
          "returned %ld", (long)rc);
    wait_timer(30 * MS);
    before = event_count[timer];
    once.flags = 0;
    once.timeout_abs_ns = system_time_ns() + 30 * MS;
    CALL(vcpu_op, VCPUOP_set_singleshot_timer, 0, &once);
    check_rc("stop_singleshot_timer",
             CALL(vcpu_op, VCPUOP_stop_singleshot_timer, 0, 0), 0);
    wait_timer(100 * MS);
    check_eq("stopped", event_count[timer], before);
    check_rc("set_periodic_timer",
             CALL(vcpu_op, VCPUOP_set_periodic_timer, 0, &period), 0);
    check(wait_for_count(timer, before + 5, SLACK), "fires again and again",
          "%u times", event_count[timer] - before);
    check_rc("stop_periodic_timer",
             CALL(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0), 0);
    wait_timer(20 * MS);
    before = event_count[timer];
    wait_timer(60 * MS);
    check_eq("stopped", event_count[timer], before);
    period.period_ns = 1000;
    check_rc("too short a period",
             CALL(vcpu_op, VCPUOP_set_periodic_timer, 0, &period), -XEN_EINVAL);
    period.period_ns = ~0UL;
    check_rc("too long a one",
             CALL(vcpu_op, VCPUOP_set_periodic_timer, 0, &period), -XEN_EINVAL);
}

static void test_block(void)
{
    uint64_t start = system_time_ns();
    uint32_t before = event_count[timer];

    CALL(set_timer_op, start + 20 * MS);
    check_rc("block", CALL(sched_op, SCHEDOP_block, 0), 0);
    while (READ_ONCE(event_count[timer]) == before)
        CALL(sched_op, SCHEDOP_block, 0);
    check_eq("block turns events on", vcpu_info()->evtchn_upcall_mask, 0);
    check(system_time_ns() - start >= 19 * MS, "woken by the timer",
          "after %lu ns", system_time_ns() - start);
    events_disable();
    CALL(set_timer_op, system_time_ns());
    while (!evtchn_pending(timer))
        CALL(sched_op, SCHEDOP_yield, 0);
    start = event_count[timer];
    check_rc("block with an event waiting", CALL(sched_op, SCHEDOP_block, 0),
             0);
    check_eq("takes it at once", event_count[timer], start + 1);
    events_disable();
    check_rc("yield", CALL(sched_op, SCHEDOP_yield, 0), 0);
}

static int64_t poll(evtchn_port_t *port, unsigned int nr, uint64_t timeout_ns)
{
    struct sched_poll arg = {.nr_ports = nr, .timeout = timeout_ns};

    set_xen_guest_handle(arg.ports, port);
    return CALL(sched_op, SCHEDOP_poll, &arg);
}

static void test_poll(void)
{
    evtchn_port_t ipi = (evtchn_port_t)bind_ipi(), bad = 5000;
    uint64_t start = system_time_ns();
    uint32_t before = upcalls;
    struct sched_poll arg = {.nr_ports = 1};

    evtchn_mask(ipi);
    check_rc("poll until the timeout", poll(&ipi, 1, start + 20 * MS), 0);
    check(system_time_ns() - start >= 19 * MS, "not early", "after %lu ns",
          system_time_ns() - start);
    evtchn_send(ipi);
    start = system_time_ns();
    check_rc("poll of a pending port", poll(&ipi, 1, start + 10000 * MS), 0);
    check(system_time_ns() - start < 5000 * MS, "returns at once",
          "after %lu ns", system_time_ns() - start);
    check_eq("poll makes no upcall", upcalls, before);
    check(evtchn_pending(ipi), "nor takes the event", "not pending");
    check_rc("poll of no ports", poll(&ipi, 0, system_time_ns() + 5 * MS), 0);
    check_rc("poll of a port that cannot be", poll(&bad, 1, 1), -XEN_EINVAL);
    check_rc("poll of too many", poll(&ipi, 200, 1), -XEN_EINVAL);
    set_xen_guest_handle(arg.ports, BAD_POINTER);
    check_rc("ports at a bad pointer", CALL(sched_op, SCHEDOP_poll, &arg),
             -XEN_EFAULT);
    check_rc("argument at a bad pointer",
             CALL(sched_op, SCHEDOP_poll, BAD_POINTER), -XEN_EFAULT);
    check_rc("shutdown at a bad pointer",
             CALL(sched_op, SCHEDOP_shutdown, BAD_POINTER), -XEN_EFAULT);
    evtchn_clear(ipi);
    evtchn_close(ipi);
}

/* A timer must be seen by a guest that never calls anything. */
static void test_preemption(void)
{
    uint32_t before = event_count[timer];
    uint64_t start = system_time_ns();

    events_enable();
    CALL(set_timer_op, start + 20 * MS);
    while (READ_ONCE(event_count[timer]) == before &&
           system_time_ns() - start < SLACK)
        ;
    events_disable();
    check_eq("upcall into a busy loop", event_count[timer], before + 1);
}

/* One deadline after the other, as a kernel's tick: emu may tell the hardware
 * of few of them. What ends the row must be seen all the same. */
static void test_tick(void)
{
    uint32_t before = event_count[timer], n, nr_early = 0;
    uint64_t start = system_time_ns(), next = start;

    events_enable();
    for (n = 0; n < TICKS; n++) {
        next += 2 * MS;
        CALL(set_timer_op, next);
        while (READ_ONCE(event_count[timer]) == before + n &&
               system_time_ns() < next + SLACK)
            ;
        nr_early += system_time_ns() < next;
        if (event_count[timer] != before + n + 1)
            break;
    }
    check_eq("each tick comes once", n, TICKS);
    check_eq("none early", nr_early, 0);
    events_disable();
    next = system_time_ns() + MS / 2;
    CALL(set_timer_op, next);
    check_deadline("then one sooner", before + n, next);
    next = system_time_ns() + 30 * MS;
    CALL(set_timer_op, next);
    check_deadline("one later", before + n + 1, next);
    wait_timer(20 * MS);
    check_eq("and no more", event_count[timer], before + n + 2);
}

void guest_main(void)
{
    events_init();
    test_clock();
    timer = (evtchn_port_t)bind_virq(VIRQ_TIMER);
    check((int32_t)timer > 0, "bind_virq", "refused");
    evtchn_unmask(timer);
    test_default_tick();
    test_set_timer();
    test_vcpu_timers();
    test_block();
    test_poll();
    test_preemption();
    test_tick();
}
