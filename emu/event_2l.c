/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event channels, 2-level: who hears of an event, and how. The pending and
 * mask bits are in shared_info, as the guest sees them. Sending takes no lock.
 */
#include "emu/event.h"
#include "emu/privileged.h"

#include <xen/io/console.h>

_Static_assert(EMU_MAX_VCPUS <= 32, "pollers");

static bool test_and_set_bit(guest_word *words, uint32_t bit)
{
    return __atomic_fetch_or(&words[bit / GUEST_WORD_BITS],
                             (guest_word)1 << bit % GUEST_WORD_BITS,
                             __ATOMIC_SEQ_CST) >>
               bit % GUEST_WORD_BITS &
           1;
}

static void clear_bit(guest_word *words, uint32_t bit)
{
    __atomic_fetch_and(&words[bit / GUEST_WORD_BITS],
                       ~((guest_word)1 << bit % GUEST_WORD_BITS),
                       __ATOMIC_SEQ_CST);
}

static bool test_bit(const guest_word *words, uint32_t bit)
{
    return READ_ONCE(words[bit / GUEST_WORD_BITS]) >> bit % GUEST_WORD_BITS & 1;
}

#define pending_words ((guest_word *)shinfo->evtchn_pending)
#define mask_words ((guest_word *)shinfo->evtchn_mask)

static struct vcpu *target(const struct evtchn *p)
{
    return vcpu_by_id(p->vcpu < shared->nr_vcpus ? p->vcpu : 0);
}

void evtchn_clear_pending(uint32_t port)
{
    clear_bit(pending_words, port);
}

bool evtchn_is_pending(uint32_t port)
{
    return port < EMU_NR_EVTCHN && test_bit(pending_words, port);
}

bool upcall_wanted(const struct vcpu *v)
{
    return READ_ONCE(v->info->evtchn_upcall_pending) &&
           !READ_ONCE(v->info->evtchn_upcall_mask);
}

/*
 * A vCPU polls for ports of any vCPU, masked ones too. Its bit stands before
 * it looks at the ports, and the port's bit before we look at pollers: one of
 * the two sees the other.
 */
void evtchn_poll_begin(struct vcpu *v, uint32_t port)
{
    v->poll_port = port;
    __atomic_fetch_or(&emu_machine.pollers, 1U << v->pub.id, __ATOMIC_SEQ_CST);
}

void evtchn_poll_end(struct vcpu *v)
{
    __atomic_fetch_and(&emu_machine.pollers, ~(1U << v->pub.id),
                       __ATOMIC_SEQ_CST);
}

static void wake_pollers(uint32_t port)
{
    uint32_t ids = __atomic_load_n(&emu_machine.pollers, __ATOMIC_SEQ_CST);

    for (; ids; ids &= ids - 1) {
        struct vcpu *v = vcpu_by_id((uint32_t)__builtin_ctz(ids));
        uint32_t wanted = READ_ONCE(v->poll_port);

        if (wanted == port || wanted == ~0U)
            send_ipi(v);
    }
}

/* Order is the ABI's: bit, selector, upcall_pending (xen.h). It looks at
 * them on its way out if it is us, else by interrupt. */
static void select_port(struct vcpu *to, uint32_t port)
{
    guest_word *sel = (guest_word *)&to->info->evtchn_pending_sel;

    if (test_and_set_bit(sel, port / GUEST_WORD_BITS))
        return;
    __atomic_store_n(&to->info->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST);
    send_ipi(to);
}

void evtchn_set_pending(uint32_t port)
{
    struct evtchn p = read_evtchn(port);

    if (test_and_set_bit(pending_words, port))
        return;
    if (!test_bit(mask_words, port))
        select_port(target(&p), port);
    wake_pollers(port);
}

/* Bits that were set from outside: struct emu_pending, abi/emu.h. */
void evtchn_from_outside(void)
{
    struct emu_pending *in = machine(EMU_PENDING_GPA);
    uint64_t sel = __atomic_exchange_n(&in->selector, 0, __ATOMIC_SEQ_CST);

    for (; sel; sel &= sel - 1) {
        uint32_t word = (uint32_t)__builtin_ctzl(sel);
        uint64_t bits =
            __atomic_exchange_n(&in->bits[word], 0, __ATOMIC_SEQ_CST);

        for (; bits; bits &= bits - 1) {
            uint32_t port =
                word * EMU_PENDING_WORD_BITS + (uint32_t)__builtin_ctzl(bits);

            if (read_evtchn(port).state != EVTCHNSTAT_closed)
                evtchn_set_pending(port);
        }
    }
}

void send_virq(struct vcpu *v, uint32_t virq)
{
    uint16_t port = READ_ONCE(v->virq_port[virq]);

    if (port)
        evtchn_set_pending(port);
}

/*
 * Linux rings twice for each line of its console, and each time costs more than
 * the line. Whoever serves that looks into the ring by itself for a while after
 * it has been rung (struct emu_console). The guest has written before it rings,
 * and the fence keeps that before our look: either we see that the doorbell
 * is wanted, or its last look sees what was written.
 */
static bool is_console_watched(void)
{
    const struct emu_console *c = &shared->console;
    const struct xencons_interface *page;
    uint32_t wanted_bytes;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wanted_bytes = READ_ONCE(c->doorbell_bytes);
    if (!wanted_bytes)
        return false;
    page = machine(c->ring_gpa);
    return READ_ONCE(page->out_prod) - READ_ONCE(page->out_cons) < wanted_bytes;
}

static void ring_doorbell(uint32_t nr, const struct evtchn *p)
{
    if (!p->is_console || !is_console_watched())
        outl(EMU_PORT_NOTIFY, nr);
}

int evtchn_send(uint32_t nr)
{
    struct evtchn p;

    if (!port_exists(nr))
        return -XEN_EINVAL;
    p = read_evtchn(nr);
    switch (p.state) {
    case EVTCHNSTAT_interdomain:
        if (p.remote_port)
            evtchn_set_pending(p.remote_port);
        else
            ring_doorbell(nr, &p);
        return 0;
    case EVTCHNSTAT_ipi:
        evtchn_set_pending(nr);
        return 0;
    case EVTCHNSTAT_unbound:
        /* Somebody outside may have bound it meanwhile. Nobody there:
         * dropped, as Xen does. */
        if (shared->flags & EMU_FLAG_EVTCHND)
            ring_doorbell(nr, &p);
        return 0;
    default:
        return -XEN_EINVAL;
    }
}

int evtchn_unmask(uint32_t nr)
{
    struct evtchn p;

    if (!port_exists(nr))
        return -XEN_EINVAL;
    clear_bit(mask_words, nr);
    p = read_evtchn(nr);
    if (test_bit(pending_words, nr))
        select_port(target(&p), nr);
    return 0;
}
