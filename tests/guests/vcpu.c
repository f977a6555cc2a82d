/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vcpu_op: who is there, and the areas that a vCPU may register. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "vcpu";

#define MS 1000000UL

/* Each in a page of its own, so that none crosses a page. */
static uint8_t info_page[PAGE_SIZE] PAGE_ALIGNED;
static struct vcpu_runstate_info runstate __attribute__((aligned(64)));
static vcpu_time_info_t time_area __attribute__((aligned(64)));

static void test_presence(void)
{
    vcpu_guest_context_t *context = page_alloc();

    check_rc("is_up of this one", CALL(vcpu_op, VCPUOP_is_up, 0, 0), 1);
    check_rc("is_up of one that is not there",
             CALL(vcpu_op, VCPUOP_is_up, 1, 0), -XEN_ENOENT);
    check_rc("is_up far out", CALL(vcpu_op, VCPUOP_is_up, 8192, 0),
             -XEN_ENOENT);
    check_rc("up of one that is not there", CALL(vcpu_op, VCPUOP_up, 7, 0),
             -XEN_ENOENT);
    check_rc("initialise one that is not there",
             CALL(vcpu_op, VCPUOP_initialise, 7, context), -XEN_ENOENT);
    check(CALL(vcpu_op, VCPUOP_initialise, 0, context) < 0,
          "initialise the running one", "accepted");
}

/* Passing time, with events. */
static void pass(uint64_t ns)
{
    evtchn_port_t port = (evtchn_port_t)bind_virq(VIRQ_TIMER);

    event_count[port] = 0;
    evtchn_unmask(port);
    CALL(set_timer_op, system_time_ns() + ns);
    while (!READ_ONCE(event_count[port]))
        CALL(sched_op, SCHEDOP_block, 0);
    events_disable();
    evtchn_close(port);
}

static uint64_t sum_of_times(void)
{
    struct vcpu_runstate_info info;

    if (CALL(vcpu_op, VCPUOP_get_runstate_info, 0, &info))
        panic("get_runstate_info");
    return info.time[0] + info.time[1] + info.time[2] + info.time[3];
}

static void test_runstate(void)
{
    struct vcpu_register_runstate_memory_area area = {.addr.v = &runstate};
    uint64_t sum, start;

    check_rc("register_runstate_memory_area",
             CALL(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &area), 0);
    check_eq("it is running", (uint64_t)runstate.state, RUNSTATE_running);
    check(runstate.state_entry_time <= system_time_ns(),
          "since some time in the past", "0x%lx", runstate.state_entry_time);
    /* Outside of what the sums span on both sides. */
    start = system_time_ns();
    sum = sum_of_times();
    pass(20 * MS);
    check_eq("still running", (uint64_t)runstate.state, RUNSTATE_running);
    check(runstate.time[RUNSTATE_blocked] >= 15 * MS, "blocked time is counted",
          "%lu ns", runstate.time[RUNSTATE_blocked]);
    sum = sum_of_times() - sum;
    start = system_time_ns() - start;
    check(sum <= start && sum + 5 * MS > start, "times add up",
          "sum grew by %lu ns in %lu ns", sum, start);
    check_rc(
        "bad pointer",
        CALL(vcpu_op, VCPUOP_register_runstate_memory_area, 0, BAD_POINTER),
        -XEN_EFAULT);
}

static void test_time_area(void)
{
    struct vcpu_register_time_memory_area area = {.addr.v = &time_area};
    int64_t rc = CALL(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &area);
    volatile vcpu_time_info_t *info = &vcpu_info()->time;

    check_rc("register_vcpu_time_memory_area", rc, 0);
    if (rc)
        return;
    check(time_area.tsc_to_system_mul == info->tsc_to_system_mul &&
              time_area.tsc_shift == info->tsc_shift,
          "it has the clock's rate", "mul 0x%x shift %d",
          time_area.tsc_to_system_mul, time_area.tsc_shift);
    check_eq("version is even", time_area.version % 2, 0);
}

static void test_vcpu_info(void)
{
    struct vcpu_register_vcpu_info reg = {.mfn = mfn_of(info_page),
                                          .offset = 128};
    evtchn_port_t port;
    int64_t rc;

    reg.offset = PAGE_SIZE - 8;
    check_rc("vcpu_info across a page",
             CALL(vcpu_op, VCPUOP_register_vcpu_info, 0, &reg), -XEN_EINVAL);
    reg.offset = 128;
    reg.mfn = 0xfffffff;
    rc = CALL(vcpu_op, VCPUOP_register_vcpu_info, 0, &reg);
    check(rc < 0, "vcpu_info in a page that is not there", "accepted");
    reg.mfn = mfn_of(info_page);
    check_rc("register_vcpu_info",
             CALL(vcpu_op, VCPUOP_register_vcpu_info, 0, &reg), 0);
    use_vcpu_info((vcpu_info_t *)(info_page + 128));
    check_eq("upcall mask has moved with it", vcpu_info()->evtchn_upcall_mask,
             1);
    check(vcpu_info()->time.tsc_to_system_mul != 0, "the clock as well",
          "mul is 0");
    check_rc("a second time is refused",
             CALL(vcpu_op, VCPUOP_register_vcpu_info, 0, &reg), -XEN_EINVAL);
    /* Xen marks everything pending once, as the old place may have been
     * looked at; take that upcall first. */
    events_enable();
    events_disable();
    port = (evtchn_port_t)bind_ipi();
    event_count[port] = 0;
    evtchn_unmask(port);
    evtchn_send(port);
    check_eq("pending shows in the new place",
             vcpu_info()->evtchn_upcall_pending, 1);
    events_enable();
    events_disable();
    check_eq("upcalls work there", event_count[port], 1);
    PROBE_OP("movb $1, (%0)", : : "r"(BAD_POINTER));
    check_eq("cr2 is put there", caught.cr2, (uint64_t)BAD_POINTER);
}

void guest_main(void)
{
    events_init();
    if (CALL(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0))
        panic("stop_periodic_timer");
    test_presence();
    test_runstate();
    test_time_area();
    test_vcpu_info();
    check_rc("register_vcpu_info at a bad pointer",
             CALL(vcpu_op, VCPUOP_register_vcpu_info, 0, BAD_POINTER),
             -XEN_EFAULT);
}
