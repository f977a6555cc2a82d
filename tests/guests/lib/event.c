/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two-level event channels, and the paravirtual clock. */
#include "tests/guests/lib/guest.h"

uint32_t event_count[4096], upcalls;
static vcpu_info_t *infos[MAX_VCPUS];

void event_handler(void);

vcpu_info_t *vcpu_info(void)
{
    return infos[this_vcpu()];
}

void use_vcpu_info(vcpu_info_t *new_info)
{
    infos[this_vcpu()] = new_info;
}

void event_handler(void)
{
    vcpu_info_t *info = vcpu_info();
    unsigned long words, bits;

    __atomic_fetch_add(&upcalls, 1, __ATOMIC_RELAXED);
    info->evtchn_upcall_pending = 0;
    words = __atomic_exchange_n(&info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    while (words) {
        unsigned int word = (unsigned int)__builtin_ctzl(words);

        words &= words - 1;
        bits = shared->evtchn_pending[word] & ~shared->evtchn_mask[word];
        while (bits) {
            unsigned int port = word * 64 + (unsigned int)__builtin_ctzl(bits);

            bits &= bits - 1;
            evtchn_clear(port);
            event_count[port]++;
        }
    }
}

void events_init(void)
{
    memset(shared->evtchn_mask, 0xff, sizeof(shared->evtchn_mask));
    for (unsigned int i = 1; i < XEN_LEGACY_MAX_VCPUS; i++)
        shared->vcpu_info[i].evtchn_upcall_mask = 1;
}

/* Xen looks for pending events only when it is entered. */
void events_enable(void)
{
    vcpu_info()->evtchn_upcall_mask = 0;
    barrier();
    if (READ_ONCE(vcpu_info()->evtchn_upcall_pending))
        CALL(xen_version, XENVER_version, 0);
}

void events_disable(void)
{
    vcpu_info()->evtchn_upcall_mask = 1;
    barrier();
}

int64_t bind_virq(unsigned int virq)
{
    struct evtchn_bind_virq bind = {.virq = virq, .vcpu = this_vcpu()};
    int64_t rc = CALL(event_channel_op, EVTCHNOP_bind_virq, &bind);

    return rc ? rc : (int64_t)bind.port;
}

int64_t bind_ipi(void)
{
    return bind_ipi_to(0);
}

int64_t bind_ipi_to(unsigned int vcpu)
{
    struct evtchn_bind_ipi bind = {.vcpu = vcpu};
    int64_t rc = CALL(event_channel_op, EVTCHNOP_bind_ipi, &bind);

    return rc ? rc : (int64_t)bind.port;
}

int64_t evtchn_send(evtchn_port_t port)
{
    struct evtchn_send send = {.port = port};

    return CALL(event_channel_op, EVTCHNOP_send, &send);
}

int64_t evtchn_close(evtchn_port_t port)
{
    struct evtchn_close close = {.port = port};

    return CALL(event_channel_op, EVTCHNOP_close, &close);
}

void evtchn_mask(evtchn_port_t port)
{
    __atomic_fetch_or(&shared->evtchn_mask[port / 64], 1UL << port % 64,
                      __ATOMIC_SEQ_CST);
}

int64_t evtchn_unmask(evtchn_port_t port)
{
    struct evtchn_unmask unmask = {.port = port};

    return CALL(event_channel_op, EVTCHNOP_unmask, &unmask);
}

bool evtchn_pending(evtchn_port_t port)
{
    return READ_ONCE(shared->evtchn_pending[port / 64]) >> port % 64 & 1;
}

void evtchn_clear(evtchn_port_t port)
{
    __atomic_fetch_and(&shared->evtchn_pending[port / 64], ~(1UL << port % 64),
                       __ATOMIC_SEQ_CST);
}

uint64_t rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

uint64_t system_time_ns(void)
{
    volatile vcpu_time_info_t *time = &vcpu_info()->time;
    uint64_t delta, ns;
    uint32_t version;

    do {
        version = time->version;
        barrier();
        delta = rdtsc() - time->tsc_timestamp;
        delta = time->tsc_shift >= 0 ? delta << time->tsc_shift
                                     : delta >> -time->tsc_shift;
        ns = time->system_time +
             (uint64_t)((unsigned __int128)delta * time->tsc_to_system_mul >>
                        32);
        barrier();
    } while (version & 1 || version != time->version);
    return ns;
}

bool wait_for_count(evtchn_port_t port, uint32_t count, uint64_t ns)
{
    uint64_t end = system_time_ns() + ns;

    events_enable();
    while (READ_ONCE(event_count[port]) < count && system_time_ns() < end)
        CALL(sched_op, SCHEDOP_yield, 0);
    events_disable();
    return event_count[port] >= count;
}
