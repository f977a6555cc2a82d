/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event_channel_op and upcalls, two-level channels within the domain. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "events";

static void test_ipi(void)
{
    int64_t port = bind_ipi();
    uint32_t before = upcalls;

    check(port > 0 && port < 4096, "bind_ipi", "returned %ld", (long)port);
    evtchn_unmask((evtchn_port_t)port);
    check_rc("send with events off", evtchn_send((evtchn_port_t)port), 0);
    check_eq("no upcall yet", upcalls, before);
    check(evtchn_pending((evtchn_port_t)port), "but pending", "not pending");
    check_eq("and upcall_pending", vcpu_info()->evtchn_upcall_pending, 1);
    events_enable();
    check_eq("upcall once events are on", upcalls, before + 1);
    check_eq("one event", event_count[port], 1);
    check_rc("send with events on", evtchn_send((evtchn_port_t)port), 0);
    check_eq("upcall at once", event_count[port], 2);
    check_eq("mask as before", vcpu_info()->evtchn_upcall_mask, 0);
    events_disable();
    check_rc("close", evtchn_close((evtchn_port_t)port), 0);
    check(evtchn_send((evtchn_port_t)port) < 0, "send on a closed port",
          "accepted");
    check(evtchn_close((evtchn_port_t)port) < 0, "close it again", "accepted");
}

static void test_masks(void)
{
    evtchn_port_t port = (evtchn_port_t)bind_ipi();
    uint32_t count;

    event_count[port] = 0;
    evtchn_mask(port);
    events_enable();
    evtchn_send(port);
    check_eq("masked: no event", event_count[port], 0);
    check(evtchn_pending(port), "masked: pending", "not pending");
    check_rc("unmask", evtchn_unmask(port), 0);
    check_eq("unmask delivers", event_count[port], 1);
    check_rc("unmask when nothing waits", evtchn_unmask(port), 0);
    check_eq("delivers nothing", event_count[port], 1);
    /* Set and masked by hand, as a guest that never asks: unmask tells. */
    evtchn_mask(port);
    __atomic_fetch_or(&shared->evtchn_pending[port / 64], 1UL << port % 64,
                      __ATOMIC_SEQ_CST);
    evtchn_unmask(port);
    check_eq("unmask finds a bit set by hand", event_count[port], 2);
    /* A second send before the first is taken makes one event. */
    events_disable();
    evtchn_send(port);
    evtchn_send(port);
    count = event_count[port];
    events_enable();
    check_eq("sends merge", event_count[port], count + 1);
    events_disable();
    evtchn_close(port);
}

static int64_t status_of(evtchn_port_t port, struct evtchn_status *status)
{
    *status = (struct evtchn_status){.dom = DOMID_SELF, .port = port};
    return CALL(event_channel_op, EVTCHNOP_status, status);
}

#define NR_PORTS 4096 /* of a 64-bit guest; 0 is none */

/* Ports 1 to 4095 that nobody has yet, each once. How many there were. */
static unsigned int bind_all(bool *mine)
{
    unsigned int n = 0;

    for (;;) {
        int64_t port = bind_ipi();

        if (port <= 0 || port >= NR_PORTS || mine[port]) {
            check_rc("one port too many", port, -XEN_ENOSPC);
            return n;
        }
        mine[port] = true;
        event_count[port] = 0;
        evtchn_unmask((evtchn_port_t)port);
        n++;
    }
}

static void test_all(void)
{
    static bool mine[NR_PORTS];
    struct evtchn_status status;
    unsigned int n = bind_all(mine), wrong = 0, nr_others = 0;

    for (evtchn_port_t port = 1; port < NR_PORTS; port++) {
        if (!mine[port])
            nr_others += status_of(port, &status) == 0 &&
                         status.status != EVTCHNSTAT_closed;
    }
    check_eq("all that there are", n + nr_others, NR_PORTS - 1);
    events_disable();
    for (evtchn_port_t port = 1; port < NR_PORTS; port++) {
        if (mine[port])
            evtchn_send(port);
    }
    events_enable();
    events_disable();
    for (evtchn_port_t port = 1; port < NR_PORTS; port++)
        wrong += mine[port] && event_count[port] != 1;
    check_eq("each has its event", wrong, 0);
    for (evtchn_port_t port = 1; port < NR_PORTS; port++)
        wrong += mine[port] && evtchn_close(port) != 0;
    check_eq("all closed", wrong, 0);
}

static void test_unbound_and_status(void)
{
    struct evtchn_alloc_unbound alloc = {.dom = DOMID_SELF,
                                         .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain bind = {.remote_dom = DOMID_SELF};
    struct evtchn_status status;
    evtchn_port_t ipi, virq;

    check_rc("alloc_unbound",
             CALL(event_channel_op, EVTCHNOP_alloc_unbound, &alloc), 0);
    check(alloc.port > 0, "its port", "%u", alloc.port);
    check_rc("status", status_of(alloc.port, &status), 0);
    check_eq("status: unbound", status.status, EVTCHNSTAT_unbound);
    bind.remote_port = alloc.port;
    check_rc("bind_interdomain to ourselves",
             CALL(event_channel_op, EVTCHNOP_bind_interdomain, &bind), 0);
    check_rc("status of the other end", status_of(bind.local_port, &status), 0);
    check_eq("status: interdomain", status.status, EVTCHNSTAT_interdomain);
    check_eq("status: its peer", status.u.interdomain.port, alloc.port);
    event_count[alloc.port] = 0;
    evtchn_unmask(alloc.port);
    events_enable();
    evtchn_send(bind.local_port);
    events_disable();
    check_eq("an event crosses", event_count[alloc.port], 1);
    check_rc("close one end", evtchn_close(bind.local_port), 0);
    status_of(alloc.port, &status);
    check_eq("the other is unbound again", status.status, EVTCHNSTAT_unbound);
    evtchn_close(alloc.port);
    status_of(alloc.port, &status);
    check_eq("status: closed", status.status, EVTCHNSTAT_closed);
    ipi = (evtchn_port_t)bind_ipi();
    status_of(ipi, &status);
    check_eq("status: ipi", status.status, EVTCHNSTAT_ipi);
    evtchn_close(ipi);
    virq = (evtchn_port_t)bind_virq(VIRQ_TIMER);
    status_of(virq, &status);
    check_eq("status: virq", status.status, EVTCHNSTAT_virq);
    check_eq("status: which", status.u.virq, VIRQ_TIMER);
    check(bind_virq(VIRQ_TIMER) < 0, "the same virq twice", "accepted");
    evtchn_close(virq);
    virq = (evtchn_port_t)bind_virq(VIRQ_TIMER);
    check((int32_t)virq > 0, "again after close", "refused");
    evtchn_close(virq);
}

static void test_refusals(void)
{
    struct evtchn_bind_virq bind_v = {.virq = 99};
    struct evtchn_bind_ipi bind_i = {.vcpu = 31};
    struct evtchn_bind_vcpu bind_c = {.port = 5000, .vcpu = 0};
    struct evtchn_alloc_unbound alloc = {.dom = 1234, .remote_dom = 0};

    check_rc("virq out of range",
             CALL(event_channel_op, EVTCHNOP_bind_virq, &bind_v), -XEN_EINVAL);
    check_rc("ipi on a vCPU that is not there",
             CALL(event_channel_op, EVTCHNOP_bind_ipi, &bind_i), -XEN_ENOENT);
    check_rc("bind_vcpu of no port",
             CALL(event_channel_op, EVTCHNOP_bind_vcpu, &bind_c), -XEN_EINVAL);
    check(CALL(event_channel_op, EVTCHNOP_alloc_unbound, &alloc) < 0,
          "alloc_unbound for another domain", "accepted");
    check(evtchn_send(0) < 0, "send on port 0", "accepted");
    check_rc("send on port 5000", evtchn_send(5000), -XEN_EINVAL);
    check_rc("unmask of port 5000", evtchn_unmask(5000), -XEN_EINVAL);
    check_rc("close of port 5000", evtchn_close(5000), -XEN_EINVAL);
    for (unsigned int op = 0; op <= EVTCHNOP_reset; op++)
        if (op != EVTCHNOP_bind_pirq) /* may be -ENOSYS: no such devices */
            check_rc("argument at a bad pointer",
                     CALL(event_channel_op, op, BAD_POINTER), -XEN_EFAULT);
}

/* An upcall may fall on any instruction: registers and flags must survive. */
static void test_upcall_keeps_registers(void)
{
    evtchn_port_t port = (evtchn_port_t)bind_ipi();
    uint64_t bad = 0;

    event_count[port] = 0;
    evtchn_unmask(port);
    events_disable();
    evtchn_send(port);
    events_enable();
    for (unsigned int i = 0; i < 50; i++) {
        struct evtchn_send send = {.port = port};
        uint64_t rc = __HYPERVISOR_event_channel_op, rbx = 0x1234 + i;
        register uint64_t r12 __asm__("r12") = 0x5678 + i;

        __asm__ volatile("syscall"
                         : "+a"(rc), "+b"(rbx), "+r"(r12)
                         : "D"(EVTCHNOP_send), "S"(&send)
                         : "rcx", "r11", "memory");
        bad += rc != 0 || rbx != 0x1234 + i || r12 != 0x5678 + i;
    }
    events_disable();
    check_eq("registers survive upcalls", bad, 0);
    check_eq("all upcalls came", event_count[port], 51);
    evtchn_close(port);
}

/* The interface before Xen 3.2: one structure with the command in it, whose
 * body is aligned as its members want. */
static void test_compat(void)
{
    evtchn_op_t op = {.cmd = EVTCHNOP_bind_ipi};
    physdev_op_t iopl = {.cmd = PHYSDEVOP_set_iopl, .u.set_iopl.iopl = 4};
    evtchn_port_t port;

    op.u.bind_ipi.port = 0;
    check_rc("compat: bind_ipi", CALL(event_channel_op_compat, &op), 0);
    port = op.u.bind_ipi.port;
    check(port != 0, "its port is in the body", "none");
    op.cmd = EVTCHNOP_status;
    op.u.status.dom = DOMID_SELF;
    op.u.status.port = port;
    check_rc("compat: status", CALL(event_channel_op_compat, &op), 0);
    check_eq("an IPI's", op.u.status.status, EVTCHNSTAT_ipi);
    op.cmd = EVTCHNOP_close;
    op.u.close.port = port;
    check_rc("compat: close", CALL(event_channel_op_compat, &op), 0);
    op.cmd = EVTCHNOP_reset;
    op.u.status.dom = DOMID_SELF;
    check_rc("compat: nothing newer", CALL(event_channel_op_compat, &op),
             -XEN_ENOSYS);
    check_rc("compat: a bad pointer",
             CALL(event_channel_op_compat, BAD_POINTER), -XEN_EFAULT);
    check_rc("compat: set_iopl", CALL(physdev_op_compat, &iopl), -XEN_EINVAL);
    iopl.u.set_iopl.iopl = 0;
    check_rc("compat: set_iopl 0", CALL(physdev_op_compat, &iopl), 0);
    check_rc("compat: a bad pointer", CALL(physdev_op_compat, BAD_POINTER),
             -XEN_EFAULT);
}

void guest_main(void)
{
    events_init();
    test_ipi();
    test_masks();
    test_all();
    test_unbound_and_status();
    test_refusals();
    test_compat();
    test_upcall_keeps_registers();
}
