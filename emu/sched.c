/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sched_op: giving the CPU up, for a while or for good. */

#include "emu/clock.h"
#include "emu/privileged.h"

/* Sleep until an interrupt has been taken. */
void wait_for_event(struct vcpu *v)
{
    v->pub.counters.block++;
    ring0_halt(v);
    if (READ_ONCE(v->irq_pending))
        take_interrupts(v);
}

static void block(struct vcpu *v)
{
    v->info->evtchn_upcall_mask = 0;
    if (v->info->evtchn_upcall_pending)
        return;
    v->pub.state |= EMU_VCPU_BLOCKED;
    runstate_change(v, RUNSTATE_blocked);
    while (!READ_ONCE(v->info->evtchn_upcall_pending) &&
           !READ_ONCE(v->nmi_pending) && !READ_ONCE(v->is_down))
        wait_for_event(v);
    runstate_change(v, RUNSTATE_running);
    v->pub.state &= ~(uint32_t)EMU_VCPU_BLOCKED;
}

/*
 * VCPUOP_down: sleep until VCPUOP_up, and then go on where it was. Others did
 * not ask us for flushes meanwhile.
 */
void wait_until_up(struct vcpu *v)
{
    v->pub.state &= ~(uint32_t)EMU_VCPU_UP;
    runstate_change(v, RUNSTATE_offline);
    while (__atomic_load_n(&v->is_down, __ATOMIC_SEQ_CST))
        wait_for_event(v);
    write_cr3(v->emu_cr3);
    runstate_change(v, RUNSTATE_running);
    v->pub.state |= EMU_VCPU_UP;
}

#define POLL_MAX_PORTS 128

static bool any_pending(const uint32_t *ports, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (evtchn_is_pending(ports[i]))
            return true;
    }
    return false;
}

static int poll(struct vcpu *v, uint64_t arg)
{
    uint32_t ports[POLL_MAX_PORTS];
    struct sched_poll p;

    if (copy_from_guest(&p, arg, sizeof(p)))
        return -XEN_EFAULT;
    if (p.nr_ports > POLL_MAX_PORTS)
        return -XEN_EINVAL;
    if (copy_from_guest(ports, (uint64_t)p.ports.p,
                        p.nr_ports * sizeof(ports[0])))
        return -XEN_EFAULT;
    for (uint32_t i = 0; i < p.nr_ports; i++) {
        if (ports[i] >= EMU_NR_EVTCHN)
            return -XEN_EINVAL;
    }
    if (p.timeout && p.timeout <= system_time_ns())
        return 0;
    evtchn_poll_begin(v, p.nr_ports == 1 ? ports[0] : ~0U);
    v->poll_ns = p.timeout;
    timer_program(v);
    runstate_change(v, RUNSTATE_blocked);
    while (!any_pending(ports, p.nr_ports) &&
           !(v->info->evtchn_upcall_pending && !v->info->evtchn_upcall_mask) &&
           !(p.timeout && !v->poll_ns) && !READ_ONCE(v->nmi_pending) &&
           !READ_ONCE(v->is_down))
        wait_for_event(v);
    runstate_change(v, RUNSTATE_running);
    evtchn_poll_end(v);
    v->poll_ns = 0;
    timer_program(v);
    return 0;
}

/* It comes back from a suspend only: 1 where that was called off. */
static int64_t shutdown(struct vcpu *v, uint64_t reason)
{
    v->pub.request.arg[0] = reason;
    request(v, EMU_REQUEST_SHUTDOWN);
    return v->pub.request.result;
}

/* The domain's timers are the VM process's: it ends what does not come back. */
static int64_t watchdog(struct vcpu *v, uint64_t arg)
{
    struct sched_watchdog w;

    if (copy_from_guest(&w, arg, sizeof(w)))
        return -XEN_EFAULT;
    v->pub.request.arg[0] = w.id;
    v->pub.request.arg[1] = w.timeout;
    request(v, EMU_REQUEST_WATCHDOG);
    return v->pub.request.result;
}

/* For who controls another domain: none is this one's. */
static int remote_shutdown(uint64_t arg)
{
    struct sched_remote_shutdown r;

    if (copy_from_guest(&r, arg, sizeof(r)))
        return -XEN_EFAULT;
    return r.domain_id && r.domain_id != shared->domid ? -XEN_ESRCH
                                                       : -XEN_EPERM;
}

int64_t do_sched_op(struct vcpu *v, guest_word cmd, guest_word arg,
                    guest_word a3, guest_word a4, guest_word a5)
{
    struct sched_shutdown s;

    switch (cmd) {
    case SCHEDOP_yield:
        return 0;
    case SCHEDOP_block:
        block(v);
        return 0;
    case SCHEDOP_shutdown:
        if (copy_from_guest(&s, arg, sizeof(s)))
            return -XEN_EFAULT;
        return shutdown(v, s.reason);
    case SCHEDOP_poll:
        return poll(v, arg);
    case SCHEDOP_shutdown_code:
        return 0; /* noted for a crash kernel elsewhere; nothing to note */
    case SCHEDOP_remote_shutdown:
        return remote_shutdown(arg);
    case SCHEDOP_watchdog:
        return watchdog(v, arg);
    case SCHEDOP_pin_override:
        return -XEN_EPERM; /* for the hardware domain */
    default:
        return -XEN_ENOSYS;
    }
}

int64_t do_sched_op_compat(struct vcpu *v, guest_word cmd, guest_word arg,
                           guest_word a3, guest_word a4, guest_word a5)
{
    switch (cmd) {
    case SCHEDOP_yield:
        return 0;
    case SCHEDOP_block:
        block(v);
        return 0;
    case SCHEDOP_shutdown:
        return shutdown(v, arg);
    default:
        return -XEN_ENOSYS;
    }
}
