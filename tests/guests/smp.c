/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several vCPUs: up and down, events and flushes between them. vCPU 0 tests;
 * the others do what it asks for, and only it prints.
 */
#include "tests/guests/lib/guest.h"
#include "tests/guests/lib/workers.h"

const char guest_name[] = "smp";

#define MS 1000000UL
#define ROUNDS 100U

static unsigned int nr_vcpus;

static void nothing(void)
{
}

/* --- up --------------------------------------------------------------------- */

static void start_all(void)
{
    for (unsigned int i = 1; i < nr_vcpus; i++) {
        struct worker *w = &workers[i];

        w->magic = 0x5ca1ab1e00 + i;
        w->wake = (evtchn_port_t)bind_ipi_to(i);
        evtchn_unmask(w->wake);
        check_rc("not up yet", CALL(vcpu_op, VCPUOP_is_up, i, 0), 0);
        check_rc("up before initialise", CALL(vcpu_op, VCPUOP_up, i, 0),
                 -XEN_EINVAL);
        check_rc("initialise at a bad pointer",
                 CALL(vcpu_op, VCPUOP_initialise, i, BAD_POINTER), -XEN_EFAULT);
        vcpu_context.user_regs.rip = 0x8000000000000000;
        check_rc("initialise with an rip that cannot be",
                 CALL(vcpu_op, VCPUOP_initialise, i, &vcpu_context),
                 -XEN_EINVAL);
        check_rc("initialise", vcpu_initialise(i, worker_main, 7 * i, w), 0);
        check_rc("initialise again",
                 CALL(vcpu_op, VCPUOP_initialise, i, &vcpu_context),
                 -XEN_EEXIST);
        check(wait_state(i, RUNSTATE_offline), "it is offline", "it is not");
        check_rc("up", CALL(vcpu_op, VCPUOP_up, i, 0), 0);
        check(wait_done(i, 0), "it runs", "it does not");
        check_rc("is_up", CALL(vcpu_op, VCPUOP_is_up, i, 0), 1);
        check_rc("up again", CALL(vcpu_op, VCPUOP_up, i, 0), 0);
        check_eq("its argument", w->seen_arg, 7 * i);
        check_eq("its %fs", w->seen_fs, w->magic);
        check_eq("its %gs", w->seen_gs, w->magic);
        check(run_on(i, nothing), "an event wakes it", "it does not");
    }
    check_rc("is_up of one too many", CALL(vcpu_op, VCPUOP_is_up, nr_vcpus, 0),
             -XEN_ENOENT);
}

/* --- events ------------------------------------------------------------------ */

static evtchn_port_t ping[MAX_VCPUS], pong[MAX_VCPUS];

/* Answer each ping with a pong; a lost one stops both. */
static void play(void)
{
    unsigned int self = this_vcpu();

    for (uint32_t n = 1; n <= ROUNDS; n++) {
        if (!wait_for_count(ping[self], n, PATIENCE))
            return;
        evtchn_send(pong[self]);
    }
}

static void test_ping_pong(void)
{
    for (unsigned int i = 1; i < nr_vcpus; i++) {
        uint32_t before = jobs_done(i), n;

        ping[i] = (evtchn_port_t)bind_ipi_to(i);
        pong[i] = (evtchn_port_t)bind_ipi_to(0);
        event_count[ping[i]] = event_count[pong[i]] = 0;
        evtchn_unmask(ping[i]);
        evtchn_unmask(pong[i]);
        post(i, play);
        for (n = 1; n <= ROUNDS; n++) {
            evtchn_send(ping[i]);
            if (!wait_for_count(pong[i], n, PATIENCE))
                break;
        }
        check_eq("events there and back", n - 1, ROUNDS);
        check(wait_done(i, before), "and the other has seen them", "no");
    }
}

/* Each sender says how far it is before it sends; events may merge, but the
 * last one comes after all of that. */
static evtchn_port_t flood_port;
static uint32_t flood_sent, flood_go;

static void flood(void)
{
    while (!READ_ONCE(flood_go))
        yield();
    for (uint32_t n = 0; n < ROUNDS; n++) {
        __atomic_fetch_add(&flood_sent, 1, __ATOMIC_SEQ_CST);
        evtchn_send(flood_port);
    }
}

static void test_flood(void)
{
    uint32_t before[MAX_VCPUS], want = (nr_vcpus - 1) * ROUNDS, seen = 0;
    uint64_t end = system_time_ns() + PATIENCE;

    flood_port = (evtchn_port_t)bind_ipi_to(0);
    evtchn_unmask(flood_port);
    for (unsigned int i = 1; i < nr_vcpus; i++) {
        before[i] = jobs_done(i);
        post(i, flood);
    }
    events_disable();
    flood_go = 1;
    while (seen != want && system_time_ns() < end) {
        uint32_t count = event_count[flood_port];

        /* Blocks unless an event has come that was not counted. */
        CALL(sched_op, SCHEDOP_block, 0);
        events_disable();
        if (event_count[flood_port] != count)
            seen = __atomic_load_n(&flood_sent, __ATOMIC_SEQ_CST);
    }
    check_eq("no event of many senders is lost", seen, want);
    for (unsigned int i = 1; i < nr_vcpus; i++)
        wait_done(i, before[i]);
}

/* --- masks and polls ----------------------------------------------------------- */

static evtchn_port_t masked_port, polled_port;
static uint32_t stage;

static void masked_then_open(void)
{
    struct sched_poll poll = {.nr_ports = 1};

    set_xen_guest_handle(poll.ports, &masked_port);
    __atomic_store_n(&stage, 1, __ATOMIC_SEQ_CST);
    CALL(sched_op, SCHEDOP_poll, &poll);
    workers[this_vcpu()].count = event_count[masked_port];
    events_enable();
}

static void poll_for_another(void)
{
    struct sched_poll poll = {.nr_ports = 1};

    set_xen_guest_handle(poll.ports, &polled_port);
    __atomic_store_n(&stage, 2, __ATOMIC_SEQ_CST);
    CALL(sched_op, SCHEDOP_poll, &poll);
    workers[this_vcpu()].count = evtchn_pending(polled_port);
}

static void test_masks_and_polls(void)
{
    uint32_t before = jobs_done(1);

    masked_port = (evtchn_port_t)bind_ipi_to(1);
    event_count[masked_port] = 0;
    evtchn_unmask(masked_port);
    post(1, masked_then_open);
    check(wait_for(&stage, 1), "it polls with events off", "it does not");
    wait_state(1, RUNSTATE_blocked);
    evtchn_send(masked_port);
    check(wait_done(1, before), "the event ends the poll", "it does not");
    check_eq("without an upcall", workers[1].count, 0);
    check_eq("which comes when its mask goes", event_count[masked_port], 1);

    before = jobs_done(1);
    polled_port = (evtchn_port_t)bind_ipi_to(0);
    post(1, poll_for_another);
    check(wait_for(&stage, 2), "it polls another's port", "it does not");
    wait_state(1, RUNSTATE_blocked);
    evtchn_send(polled_port);
    check(wait_done(1, before), "that ends the poll, too", "it does not");
    check_eq("the port is pending", workers[1].count, 1);
    evtchn_close(polled_port);
}

/* --- timer and NMI ---------------------------------------------------------------- */

static void own_timer(void)
{
    evtchn_port_t port = (evtchn_port_t)bind_virq(VIRQ_TIMER);

    event_count[port] = 0;
    evtchn_unmask(port);
    CALL(set_timer_op, system_time_ns() + 5 * MS);
    while (!READ_ONCE(event_count[port])) {
        CALL(sched_op, SCHEDOP_block, 0);
        events_disable();
    }
    workers[this_vcpu()].count = event_count[port];
    evtchn_close(port);
}

static uint32_t nmis;

static bool count_nmi(struct regs *r)
{
    if (r->entry != 2)
        return false;
    __atomic_fetch_add(&nmis, this_vcpu() == 1 ? 1 : 1000, __ATOMIC_SEQ_CST);
    return true;
}

static void test_timer_and_nmi(void)
{
    struct evtchn_bind_virq global = {.virq = VIRQ_CONSOLE, .vcpu = 1};

    check(run_on(1, own_timer), "its timer wakes it", "it does not");
    check_eq("once", workers[1].count, 1);
    check_rc("the domain's virqs are vCPU 0's",
             CALL(event_channel_op, EVTCHNOP_bind_virq, &global), -XEN_EINVAL);
    trap_hook = count_nmi;
    check_rc("send_nmi", CALL(vcpu_op, VCPUOP_send_nmi, 1, 0), 0);
    check(wait_for(&nmis, 1), "it has the NMI", "it does not");
    check(run_on(1, nothing), "and lives", "it does not");
    trap_hook = NULL;
}

/* --- flushes ------------------------------------------------------------------------ */

#define GOOD 0x600d600d
#define POISON 0xdead
static uint8_t window[PAGE_SIZE] PAGE_ALIGNED;
static uint64_t pages[2][512] PAGE_ALIGNED;
static uint32_t watching, poisoned;

/* A translation that should be gone shows the page that was taken away. */
static void watch(void)
{
    while (READ_ONCE(watching))
        if (READ_ONCE(*(uint64_t *)window) != GOOD)
            __atomic_fetch_add(&poisoned, 1, __ATOMIC_SEQ_CST);
}

static void remap(unsigned int to, unsigned int way)
{
    uint64_t entry = maddr_of(pages[to]) | PTE_KERNEL;
    uint64_t mask = ~0UL;
    struct mmuext_op op = {.cmd = MMUEXT_TLB_FLUSH_ALL};

    set_xen_guest_handle(op.arg2.vcpumask, &mask);
    switch (way) {
    case 0:
        CALL(update_va_mapping, window, entry, UVMF_TLB_FLUSH | UVMF_ALL);
        return;
    case 1:
        CALL(update_va_mapping, window, entry,
             UVMF_INVLPG | UVMF_MULTI | (uint64_t)&mask);
        return;
    case 2:
        op.cmd = MMUEXT_INVLPG_ALL;
        op.arg1.linear_addr = (uint64_t)window;
        break;
    case 3:
        op.cmd = MMUEXT_TLB_FLUSH_MULTI;
        break;
    case 4:
        op.cmd = MMUEXT_INVLPG_MULTI;
        op.arg1.linear_addr = (uint64_t)window;
        set_xen_guest_handle(op.arg2.vcpumask, &mask);
        break;
    }
    CALL(update_va_mapping, window, entry, UVMF_NONE);
    CALL(mmuext_op, &op, 1, 0, DOMID_SELF);
}

static void test_flush(void)
{
    uint32_t before[MAX_VCPUS];

    pages[0][0] = pages[1][0] = GOOD;
    remap(0, 0);
    watching = 1;
    for (unsigned int i = 1; i < nr_vcpus; i++) {
        before[i] = jobs_done(i);
        post(i, watch);
    }
    for (unsigned int n = 1; n <= ROUNDS; n++) {
        pages[n & 1][0] = GOOD;
        remap(n & 1, n % 6);
        pages[!(n & 1)][0] = POISON;
        for (unsigned int spin = 0; spin < 1000; spin++)
            barrier();
    }
    __atomic_store_n(&watching, 0, __ATOMIC_SEQ_CST);
    for (unsigned int i = 1; i < nr_vcpus; i++)
        check(wait_done(i, before[i]), "it has watched", "it has not");
    check_eq("no translation outlives its flush", poisoned, 0);
}

static void flush_all(void)
{
    for (unsigned int n = 0; n < ROUNDS; n++)
        mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
}

/* Everybody waits for everybody. */
static void test_flush_each_other(void)
{
    uint32_t before[MAX_VCPUS];

    for (unsigned int i = 1; i < nr_vcpus; i++) {
        before[i] = jobs_done(i);
        post(i, flush_all);
    }
    flush_all();
    for (unsigned int i = 1; i < nr_vcpus; i++)
        check(wait_done(i, before[i]), "all flush, none waits for good",
              "one does");
}

/* --- ports ---------------------------------------------------------------------------- */

static void churn(void)
{
    struct worker *w = &workers[this_vcpu()];

    w->count = 0;
    for (unsigned int n = 0; n < ROUNDS; n++) {
        int64_t a = bind_ipi_to(this_vcpu()), b = bind_ipi_to(0);

        if (a <= 0 || b <= 0 || a == b)
            break;
        w->count +=
            !evtchn_close((evtchn_port_t)a) && !evtchn_close((evtchn_port_t)b);
    }
}

/* Two that get the same port would close it for each other. */
static void test_port_table(void)
{
    uint32_t before[MAX_VCPUS];

    for (unsigned int i = 1; i < nr_vcpus; i++) {
        before[i] = jobs_done(i);
        post(i, churn);
    }
    churn();
    check_eq("each port is one vCPU's", workers[0].count, ROUNDS);
    for (unsigned int i = 1; i < nr_vcpus; i++) {
        check(wait_done(i, before[i]), "and the other's", "no end");
        check_eq("all of them", workers[i].count, ROUNDS);
    }
}

/* --- down and up again --------------------------------------------------------------------- */

static void go_down(void)
{
    workers[this_vcpu()].count = 1;
    CALL(vcpu_op, VCPUOP_down, this_vcpu(), 0);
    workers[this_vcpu()].count = 2;
}

static uint32_t counting, counter;

static void count(void)
{
    while (READ_ONCE(counting))
        __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
}

static void test_down(void)
{
    for (unsigned int n = 0; n < 3; n++) {
        uint32_t before = jobs_done(1);

        post(1, go_down);
        check(wait_state(1, RUNSTATE_offline), "it goes down", "it does not");
        check_rc("is_up", CALL(vcpu_op, VCPUOP_is_up, 1, 0), 0);
        check_eq("at its hypercall", workers[1].count, 1);
        mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
        check_rc("up", CALL(vcpu_op, VCPUOP_up, 1, 0), 0);
        check(wait_done(1, before), "it goes on", "it does not");
        check_eq("behind its hypercall", workers[1].count, 2);
    }
}

/* By another vCPU, in the middle of anything. */
static void test_down_by_another(void)
{
    uint32_t before = jobs_done(1), at;

    counting = 1;
    post(1, count);
    while (READ_ONCE(counter) == 0)
        yield();
    check_rc("down", CALL(vcpu_op, VCPUOP_down, 1, 0), 0);
    check(wait_state(1, RUNSTATE_offline), "it stops", "it does not");
    at = READ_ONCE(counter);
    for (unsigned int n = 0; n < 100; n++)
        yield();
    check_eq("it stands still", READ_ONCE(counter), at);
    check_rc("up", CALL(vcpu_op, VCPUOP_up, 1, 0), 0);
    while (READ_ONCE(counter) == at)
        yield();
    counting = 0;
    check(wait_done(1, before), "it goes on", "it does not");
}

static void end(void)
{
    shutdown(cmdline_has("end=crash") ? SHUTDOWN_crash : SHUTDOWN_poweroff);
}

void guest_main(void)
{
    events_init();
    if (CALL(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0))
        panic("stop_periodic_timer");
    while (CALL(vcpu_op, VCPUOP_is_up, nr_vcpus, 0) >= 0)
        nr_vcpus++;
    check(nr_vcpus > 1, "there are vCPUs to test", "%u", nr_vcpus);
    start_all();
    test_ping_pong();
    test_flood();
    test_masks_and_polls();
    test_timer_and_nmi();
    test_flush();
    test_flush_each_other();
    test_port_table();
    test_down();
    test_down_by_another();
    if (cmdline_has("end=other") || cmdline_has("end=crash")) {
        verdict();
        post(1, end);
        for (;;)
            CALL(sched_op, SCHEDOP_block, 0);
    }
}
