/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vCPUs: what they may register, their interrupts, their registers. */

#include "emu/emu.h"
#include "emu/privileged.h"

#define MSR_X2APIC_ICR 0x830

/* --- interrupts ------------------------------------------------------------------ */

/* What the entry code noted in irq_pending. */
void take_interrupts(struct vcpu *v)
{
    uint32_t irqs = __atomic_exchange_n(&v->irq_pending, 0, __ATOMIC_SEQ_CST);

    if (irqs & IRQ_TIMER)
        timer_interrupt(v);
    if (irqs & IRQ_EVTCHN)
        evtchn_from_outside(v);
    if (irqs & IRQ_IPI) {
        uint32_t work = __atomic_exchange_n(&v->ipi_work, 0, __ATOMIC_SEQ_CST);

        if (work & IPI_FLUSH)
            flush_local(v);
    }
}

/* Ask another vCPU; APIC id == vCPU number. */
void send_ipi(struct vcpu *to, uint32_t work)
{
    __atomic_fetch_or(&to->ipi_work, work, __ATOMIC_SEQ_CST);
    if (to != this_vcpu())
        wrmsr(MSR_X2APIC_ICR, (uint64_t)to->pub.id << 32 | EMU_VECTOR_IPI);
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

/* --- vcpu_op ------------------------------------------------------------------------- */

static int register_vcpu_info(struct vcpu *v, uint64_t arg)
{
    struct vcpu_register_vcpu_info r;
    vcpu_info_t *to, *from = v->info;

    if (copy_from_guest(&r, arg, sizeof(r)))
        return -XEN_EFAULT;
    if (from != &shinfo->vcpu_info[v->pub.id])
        return -XEN_EINVAL;
    if (!mfn_guest(r.mfn) || r.offset > PAGE_SIZE - sizeof(*to) || r.offset & 7)
        return -XEN_EINVAL;
    to = (vcpu_info_t *)((char *)machine(r.mfn << PAGE_SHIFT) + r.offset);
    memcpy(to, from, sizeof(*to));
    v->info = to;
    /* Events may have come for the old place: look at everything again. */
    to->evtchn_pending_sel = ~0UL;
    to->evtchn_upcall_pending = 1;
    return 0;
}

static int set_periodic(struct vcpu *v, uint64_t arg)
{
    struct vcpu_set_periodic_timer t;

    if (copy_from_guest(&t, arg, sizeof(t)))
        return -XEN_EFAULT;
    if (t.period_ns < 1000000)
        return -XEN_EINVAL;
    v->period_ns = t.period_ns;
    v->periodic_next_ns = system_time_ns() + t.period_ns;
    timer_program(v);
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
    runstate_change(this_vcpu(), this_vcpu()->runstate.state);
    return copy_to_guest(arg, &v->runstate, sizeof(v->runstate));
}

static int register_runstate(struct vcpu *v, uint64_t arg)
{
    struct vcpu_register_runstate_memory_area a;

    if (copy_from_guest(&a, arg, sizeof(a)))
        return -XEN_EFAULT;
    v->runstate_va = a.addr.p;
    runstate_change(v, RUNSTATE_running);
    return 0;
}

static int register_time(struct vcpu *v, uint64_t arg)
{
    struct vcpu_register_time_memory_area a;

    if (copy_from_guest(&a, arg, sizeof(a)))
        return -XEN_EFAULT;
    v->time_va = a.addr.p;
    update_time(v, true);
    return 0;
}

/* Operations a vCPU asks for itself only; timers are refused for others. */
static int own_op(struct vcpu *v, uint64_t cmd, uint64_t arg)
{
    switch (cmd) {
    case VCPUOP_set_periodic_timer:
        return set_periodic(v, arg);
    case VCPUOP_stop_periodic_timer:
        v->periodic_next_ns = 0;
        timer_program(v);
        return 0;
    case VCPUOP_set_singleshot_timer:
        return set_singleshot(v, arg);
    case VCPUOP_stop_singleshot_timer:
        v->singleshot_ns = 0;
        timer_program(v);
        return 0;
    default:
        return -XEN_ENOSYS;
    }
}

int64_t do_vcpu_op(struct vcpu *v, uint64_t cmd, uint64_t id, uint64_t arg,
                   uint64_t a4, uint64_t a5)
{
    struct vcpu *of;

    (void)a4, (void)a5;
    if (id >= shared->nr_vcpus)
        return -XEN_ENOENT;
    of = vcpu_by_id((uint32_t)id);
    switch (cmd) {
    case VCPUOP_is_up:
        return !!(of->pub.state & EMU_VCPU_UP);
    case VCPUOP_get_runstate_info:
        return get_runstate(of, arg);
    case VCPUOP_register_vcpu_info:
        return register_vcpu_info(of, arg);
    case VCPUOP_register_runstate_memory_area:
        return register_runstate(of, arg);
    case VCPUOP_register_vcpu_time_memory_area:
        return register_time(of, arg);
    case VCPUOP_send_nmi:
        of->nmi_pending = 1;
        if (of != v)
            send_ipi(of, IPI_KICK);
        return 0;
    case VCPUOP_up:
        /* One vCPU, and it is up. */
        return of->pub.state & EMU_VCPU_UP ? 0 : -XEN_EINVAL;
    case VCPUOP_down:
        /* The last one to go takes the domain with it, as on Xen. */
        v->pub.request.arg[0] = SHUTDOWN_poweroff;
        request(v, EMU_REQUEST_SHUTDOWN);
        return 0;
    case VCPUOP_initialise:
        return of->pub.state & EMU_VCPU_UP ? -XEN_EEXIST : -XEN_ENOSYS;
    case VCPUOP_set_periodic_timer:
    case VCPUOP_stop_periodic_timer:
    case VCPUOP_set_singleshot_timer:
    case VCPUOP_stop_singleshot_timer:
        return of == v ? own_op(v, cmd, arg) : -XEN_EINVAL;
    default:
        return -XEN_ENOSYS;
    }
}

/* --- registers ---------------------------------------------------------------------------- */

int64_t do_stack_switch(struct vcpu *v, uint64_t ss, uint64_t sp, uint64_t a3,
                        uint64_t a4, uint64_t a5)
{
    /* ss is always the flat one at ring 3. */
    (void)ss, (void)a3, (void)a4, (void)a5;
    v->kernel_sp = sp;
    return 0;
}

int64_t do_fpu_taskswitch(struct vcpu *v, uint64_t set, uint64_t a2,
                          uint64_t a3, uint64_t a4, uint64_t a5)
{
    (void)a2, (void)a3, (void)a4, (void)a5;
    if (!!set == v->fpu_ts)
        return 0;
    v->fpu_ts = !!set;
    write_cr0((v->cr0_guest & ~CR0_TS) | (set ? CR0_TS : 0));
    return 0;
}

int64_t do_set_debugreg(struct vcpu *v, uint64_t nr, uint64_t value,
                        uint64_t a3, uint64_t a4, uint64_t a5)
{
    (void)a3, (void)a4, (void)a5;
    switch (nr) {
    case 0:
    case 1:
    case 2:
    case 3:
        /* No watchpoints in Xen's hole, nor where no address can be. */
        if (!canonical(value) || in_hole(value))
            return -XEN_EPERM;
        break;
    case 4:
    case 6:
        nr = 6;
        value = (value & 0xefff) | DR6_FIXED;
        break;
    case 5:
    case 7:
        nr = 7;
        /* General detect would trap emu's own accesses. */
        if (value & DR7_GD)
            return -XEN_EPERM;
        value = (value & 0xffff07ff) | DR7_FIXED;
        break;
    default:
        return -XEN_ENODEV;
    }
    if (v->dr[nr] == value)
        return 0;
    v->dr[nr] = value;
    if (nr != 6)
        write_dr((unsigned int)nr, value);
    return 0;
}

int64_t do_get_debugreg(struct vcpu *v, uint64_t nr, uint64_t a2, uint64_t a3,
                        uint64_t a4, uint64_t a5)
{
    (void)a2, (void)a3, (void)a4, (void)a5;
    if (nr > 7)
        return -XEN_ENODEV;
    if (nr == 4 || nr == 5)
        nr += 2;
    return (int64_t)(nr == 6   ? v->dr[6] | DR6_FIXED
                     : nr == 7 ? v->dr[7] | DR7_FIXED
                               : v->dr[nr]);
}
