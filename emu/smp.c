/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What vCPUs ask of each other: to look at what changed, and to forget
 * translations; and the lock around what all of them write.
 *
 * Who waits for another vCPU does what others wait for from it meanwhile, so
 * that no two wait for each other. A vCPU that the host has descheduled is
 * waited for: its thread is runnable and needs no other vCPU to come back.
 */
#include "emu/emu.h"
#include "emu/privileged.h"

#define MSR_X2APIC_ICR 0x830

/*
 * Have another vCPU come into emu and look at everything: events, flushes,
 * timers, whether it is to be down. APIC id == vCPU number.
 *
 * One interrupt is enough until it has been taken. Who finds the mark set
 * sends none: the taker clears it before it looks (take_ipi).
 */
void send_ipi(struct vcpu *to)
{
    if (to == this_vcpu() ||
        __atomic_exchange_n(&to->ipi_sent, 1, __ATOMIC_SEQ_CST))
        return;
    wrmsr(MSR_X2APIC_ICR, (uint64_t)to->pub.id << 32 | EMU_VECTOR_IPI);
}

/*
 * Forget what others have asked for. At once, not on the way out: emu itself
 * uses the guest's translations until then. The count is read before the
 * flush, so that it covers no request that came later.
 */
static void answer_flush(struct vcpu *v)
{
    uint32_t asked = __atomic_load_n(&v->flush_asked, __ATOMIC_SEQ_CST);

    if (asked == v->flush_done)
        return;
    v->pub.counters.tlb_flush++;
    write_cr3(v->emu_cr3);
    __atomic_store_n(&v->flush_done, asked, __ATOMIC_RELEASE);
}

void take_ipi(struct vcpu *v)
{
    __atomic_exchange_n(&v->ipi_sent, 0, __ATOMIC_SEQ_CST);
    answer_flush(v);
}

/* One turn of waiting for another vCPU. */
static void relax(struct vcpu *v)
{
    __asm__ volatile("pause" ::: "memory");
    answer_flush(v);
}

/*
 * All translations on every vCPU in mask: the others' are gone when this
 * returns, the caller's own before its guest runs again. One that is down
 * flushes when it comes up.
 */
void flush_vcpus(struct vcpu *v, uint64_t mask)
{
    uint32_t want[EMU_MAX_VCPUS];
    uint64_t waiting = 0;

    /* The entries that changed before is_down: who comes up after we found it
     * down walks tables that have them. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (uint32_t id = 0; id < shared->nr_vcpus; id++) {
        struct vcpu *to = vcpu_by_id(id);

        if (!(mask & 1UL << id))
            continue;
        if (to == v) {
            flush_local(v);
        } else if (!__atomic_load_n(&to->is_down, __ATOMIC_SEQ_CST)) {
            want[id] =
                __atomic_add_fetch(&to->flush_asked, 1, __ATOMIC_SEQ_CST);
            waiting |= 1UL << id;
            send_ipi(to);
        }
    }
    for (; waiting; waiting &= waiting - 1) {
        uint32_t id = (uint32_t)__builtin_ctzl(waiting);
        const uint32_t *done = &vcpu_by_id(id)->flush_done;

        while ((int32_t)(__atomic_load_n(done, __ATOMIC_ACQUIRE) - want[id]) <
               0)
            relax(v);
    }
}

/*
 * Not to be held while waiting for another vCPU by flush_vcpus(). An interrupt
 * never finds it held by its own vCPU: interrupts are off, or only noted.
 */
void lock(struct vcpu *v, uint32_t *word)
{
    while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE)) {
        while (READ_ONCE(*word))
            relax(v);
    }
}

void unlock(uint32_t *word)
{
    __atomic_store_n(word, 0, __ATOMIC_RELEASE);
}
