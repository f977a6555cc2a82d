/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vCPUs: what they may register, their interrupts, their registers. */

#include "emu/clock.h"
#include "emu/privileged.h"

/* --- interrupts ----------------------------------------------------------- */

/* What the entry code noted in irq_pending. */
void take_interrupts(struct vcpu *v)
{
    uint32_t irqs = __atomic_exchange_n(&v->irq_pending, 0, __ATOMIC_SEQ_CST);

    if (irqs & (IRQ_TIMER | IRQ_TICK))
        timer_interrupt(v, irqs & IRQ_TICK);
    if (irqs & IRQ_EVTCHN)
        evtchn_from_outside();
    if (irqs & IRQ_IPI) {
        take_ipi(v);
        /* Another vCPU may have set or stopped our periodic timer. */
        timer_program(v);
    }
}

void ring0_halt(struct vcpu *v)
{
    if (slow_ring0()) {
        ring0_call(RING0_HALT, 0, 0);
        return;
    }
    if (!READ_ONCE(v->irq_pending))
        __asm__ volatile("sti; hlt; cli" ::: "memory");
}

/* --- vcpu_op -------------------------------------------------------------- */

/* Can something of v's be changed that it uses all the time? */
static bool is_own_or_down(const struct vcpu *v)
{
    return v == this_vcpu() || !v->is_started ||
           v->runstate.state == RUNSTATE_offline;
}

static int register_vcpu_info(struct vcpu *v, uint64_t arg)
{
    struct vcpu_register_vcpu_info r;
    vcpu_info_t *to, *from = v->info;

    if (!is_own_or_down(v))
        return -XEN_EINVAL;
    if (copy_from_guest(&r, arg, sizeof(r)))
        return -XEN_EFAULT;
    if (from != &shinfo->vcpu_info[v->pub.id])
        return -XEN_EINVAL;
    if (!mfn_guest(r.mfn) || r.offset > PAGE_SIZE - sizeof(*to) || r.offset & 7)
        return -XEN_EINVAL;
    to = (vcpu_info_t *)((char *)machine(r.mfn << PAGE_SHIFT) + r.offset);
    memcpy(to, from, sizeof(*to));
    __atomic_store_n(&v->info, to, __ATOMIC_SEQ_CST);
    /* Events may have come for the old place: look at everything again. */
    WRITE_ONCE(to->evtchn_pending_sel, ~0UL);
    WRITE_ONCE(to->evtchn_upcall_pending, 1);
    return 0;
}

/* 0 stops it. Another vCPU's LAPIC is its own to program. */
static void start_periodic(struct vcpu *v, uint64_t period_ns)
{
    WRITE_ONCE(v->period_ns, period_ns);
    WRITE_ONCE(v->periodic_next_ns,
               period_ns ? system_time_ns() + period_ns : 0);
    if (v == this_vcpu())
        timer_program(v);
    else if (!v->is_down)
        send_ipi(v);
}

#define PERIOD_LEAST_NS 1000000UL
#define PERIOD_MOST_NS (~0UL >> 2) /* STIME_DELTA_MAX of Xen's time.h */

static int set_periodic(struct vcpu *v, uint64_t arg)
{
    struct vcpu_set_periodic_timer t;

    if (copy_from_guest(&t, arg, sizeof(t)))
        return -XEN_EFAULT;
    if (t.period_ns < PERIOD_LEAST_NS || t.period_ns > PERIOD_MOST_NS)
        return -XEN_EINVAL;
    start_periodic(v, t.period_ns);
    return 0;
}

static int set_singleshot(struct vcpu *v, uint64_t arg)
{
    struct vcpu_set_singleshot_timer t;

    if (copy_from_guest(&t, arg, sizeof(t)))
        return -XEN_EFAULT;
    if (t.flags & VCPU_SSHOTTMR_future && t.timeout_abs_ns < system_time_ns())
        return -XEN_ETIME;
    do_set_timer_op(v, t.timeout_abs_ns, 0, 0, 0, 0);
    return 0;
}

static int get_runstate(struct vcpu *v, uint64_t arg)
{
    struct vcpu_runstate_info info;

    runstate_read(v, &info);
    return copy_to_guest(arg, &info, sizeof(info));
}

static int register_runstate(struct vcpu *v, uint64_t arg)
{
    struct vcpu_register_runstate_memory_area a;

    if (copy_from_guest(&a, arg, sizeof(a)))
        return -XEN_EFAULT;
    WRITE_ONCE(v->runstate_va, a.addr.p);
    return get_runstate(v, a.addr.p);
}

static int register_time(struct vcpu *v, uint64_t arg)
{
    struct vcpu_register_time_memory_area a;

    if (copy_from_guest(&a, arg, sizeof(a)))
        return -XEN_EFAULT;
    WRITE_ONCE(v->time_va, a.addr.p);
    return copy_time(a.addr.p);
}

/* --- up and down ---------------------------------------------------------- */

static int up(struct vcpu *v, struct vcpu *of)
{
    if (!__atomic_load_n(&of->is_initialised, __ATOMIC_ACQUIRE))
        return -XEN_EINVAL;
    if (!__atomic_exchange_n(&of->is_down, 0, __ATOMIC_SEQ_CST))
        return 0;
    if (__atomic_exchange_n(&of->is_started, 1, __ATOMIC_SEQ_CST)) {
        send_ipi(of);
    } else {
        v->pub.request.arg[0] = of->pub.id;
        request(v, EMU_REQUEST_START_VCPU);
    }
    return 0;
}

/* Ours goes down on its way out; the last one takes the domain with it, as
 * on Xen. */
static int down(struct vcpu *v, struct vcpu *of)
{
    bool is_last = true;

    lock(v, &emu_machine.down_lock);
    for (uint32_t id = 0; id < shared->nr_vcpus; id++) {
        if (vcpu_by_id(id) != of && !vcpu_by_id(id)->is_down)
            is_last = false;
    }
    if (!is_last)
        __atomic_store_n(&of->is_down, 1, __ATOMIC_SEQ_CST);
    unlock(&emu_machine.down_lock);
    if (is_last) {
        v->pub.request.arg[0] = SHUTDOWN_poweroff;
        request(v, EMU_REQUEST_SHUTDOWN);
    } else {
        send_ipi(of);
    }
    return 0;
}

/* Operations that are the vCPU's own. */
static int own_op(struct vcpu *v, uint64_t cmd, uint64_t arg)
{
    if (cmd == VCPUOP_set_singleshot_timer)
        return set_singleshot(v, arg);
    v->singleshot_ns = 0;
    timer_program(v);
    return 0;
}

int64_t do_vcpu_op(struct vcpu *v, guest_word cmd, guest_word id,
                   guest_word arg, guest_word a4, guest_word a5)
{
    struct vcpu *of;

    if (id >= shared->nr_vcpus)
        return -XEN_ENOENT;
    of = vcpu_by_id((uint32_t)id);
    switch (cmd) {
    case VCPUOP_is_up:
        return !of->is_down;
    case VCPUOP_get_runstate_info:
        return get_runstate(of, arg);
    case VCPUOP_register_vcpu_info:
        return register_vcpu_info(of, arg);
    case VCPUOP_register_runstate_memory_area:
        return register_runstate(of, arg);
    case VCPUOP_register_vcpu_time_memory_area:
        return register_time(of, arg);
    case VCPUOP_send_nmi:
        __atomic_store_n(&of->nmi_pending, 1, __ATOMIC_SEQ_CST);
        if (!of->is_down)
            send_ipi(of);
        return 0;
    case VCPUOP_up:
        return up(v, of);
    case VCPUOP_down:
        return down(v, of);
    case VCPUOP_initialise:
        return initialise_vcpu(v, of, arg);
    case VCPUOP_set_periodic_timer:
        return set_periodic(of, arg);
    case VCPUOP_stop_periodic_timer:
        start_periodic(of, 0);
        return 0;
    case VCPUOP_set_singleshot_timer:
    case VCPUOP_stop_singleshot_timer:
        return of == v ? own_op(v, cmd, arg) : -XEN_EINVAL;
    case VCPUOP_get_physid: /* for domain 0's, where each is pinned */
        return -XEN_EINVAL;
    default:
        return -XEN_ENOSYS;
    }
}

/* --- registers ------------------------------------------------------------ */

int64_t do_stack_switch(struct vcpu *v, guest_word ss, guest_word sp,
                        guest_word a3, guest_word a4, guest_word a5)
{
    /* ss is always the flat one at ring 3. */
    v->kernel_sp = sp;
    return 0;
}
