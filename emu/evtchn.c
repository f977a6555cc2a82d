/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event channels, 2-level. The pending and mask bits are in shared_info, as
 * the guest sees them. What a port is stands in the table below, which is all
 * there is for a domain that is alone; with EMU_FLAG_EVTCHND the table is
 * evtchnd's, and ours remembers of it what sending and receiving take.
 */

#include "emu/emu.h"
#include "emu/privileged.h"

struct port {
    uint8_t state; /* EVTCHNSTAT_* */
    uint8_t vcpu;
    uint16_t virq;        /* EVTCHNSTAT_virq */
    uint16_t remote_dom;  /* unbound, interdomain */
    uint16_t remote_port; /* interdomain within this domain; 0: outside */
};

/* One domain to a VM: the table is the domain's, all vCPUs write it. */
static struct port ports[EMU_NR_EVTCHN];

static bool test_and_set_bit(uint64_t *words, uint32_t bit)
{
    return __atomic_fetch_or(&words[bit / 64], 1UL << bit % 64,
                             __ATOMIC_SEQ_CST) >>
               bit % 64 &
           1;
}

static void clear_bit(uint64_t *words, uint32_t bit)
{
    __atomic_fetch_and(&words[bit / 64], ~(1UL << bit % 64), __ATOMIC_SEQ_CST);
}

static bool test_bit(const uint64_t *words, uint32_t bit)
{
    return READ_ONCE(words[bit / 64]) >> bit % 64 & 1;
}

#define pending_words ((uint64_t *)shinfo->evtchn_pending)
#define mask_words ((uint64_t *)shinfo->evtchn_mask)

static struct port *port_of(uint32_t port)
{
    return port > 0 && port < EMU_NR_EVTCHN ? &ports[port] : NULL;
}

static struct vcpu *target(const struct port *p)
{
    return vcpu_by_id(p->vcpu < shared->nr_vcpus ? p->vcpu : 0);
}

void evtchn_init(void)
{
    uint32_t outside[2] = {shared->store_port, shared->console_port};

    for (unsigned int i = 0; i < ARRAY_SIZE(outside); i++) {
        struct port *p = port_of(outside[i]);

        if (p)
            p->state = EVTCHNSTAT_interdomain;
    }
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

/* to has an event to look at: on the way out if it is us, else by interrupt. */
void vcpu_mark_pending(struct vcpu *from, struct vcpu *to)
{
    WRITE_ONCE(to->info->evtchn_upcall_pending, 1);
    if (from != to)
        send_ipi(to, IPI_KICK);
}

void evtchn_set_pending(struct vcpu *from, uint32_t port)
{
    struct vcpu *to = target(&ports[port]);

    /* Order is the ABI's: bit, selector, upcall_pending (xen.h). */
    if (test_and_set_bit(pending_words, port))
        return;
    if (!test_bit(mask_words, port)) {
        uint64_t *sel = (uint64_t *)&to->info->evtchn_pending_sel;

        if (!test_and_set_bit(sel, port / 64))
            vcpu_mark_pending(from, to);
    }
    /* A vCPU that polls wants masked ports too. */
    if (to->poll_port && from != to)
        send_ipi(to, IPI_KICK);
}

/* Bits that were set from outside: struct emu_pending, abi/emu.h. */
void evtchn_from_outside(struct vcpu *v)
{
    struct emu_pending *in = machine(EMU_PENDING_GPA);
    uint64_t sel = __atomic_exchange_n(&in->selector, 0, __ATOMIC_SEQ_CST);

    for (; sel; sel &= sel - 1) {
        uint32_t word = (uint32_t)__builtin_ctzl(sel);
        uint64_t bits =
            __atomic_exchange_n(&in->bits[word], 0, __ATOMIC_SEQ_CST);

        for (; bits; bits &= bits - 1) {
            uint32_t port = word * 64 + (uint32_t)__builtin_ctzl(bits);

            if (ports[port].state != EVTCHNSTAT_closed)
                evtchn_set_pending(v, port);
        }
    }
}

void send_virq(struct vcpu *v, uint32_t virq)
{
    uint16_t port = v->virq_port[virq];

    if (port)
        evtchn_set_pending(this_vcpu(), port);
}

static int alloc_port(uint32_t *port)
{
    for (uint32_t i = 1; i < EMU_NR_EVTCHN; i++) {
        if (ports[i].state == EVTCHNSTAT_closed) {
            *port = i;
            return 0;
        }
    }
    return -XEN_ENOSPC;
}

static int alloc_unbound(struct evtchn_alloc_unbound *op)
{
    uint32_t port;
    int rc;

    if (!is_self(op->dom))
        return -XEN_EPERM;
    rc = alloc_port(&port);
    if (rc)
        return rc;
    ports[port] = (struct port){
        .state = EVTCHNSTAT_unbound,
        .remote_dom = op->remote_dom == DOMID_SELF ? (uint16_t)shared->domid
                                                   : op->remote_dom,
    };
    op->port = port;
    return 0;
}

/* Both ends in this domain: a loop, as Xen allows. */
static int bind_interdomain(struct vcpu *v, struct evtchn_bind_interdomain *op)
{
    struct port *remote = port_of(op->remote_port);
    uint32_t port;
    int rc;

    if (!is_self(op->remote_dom))
        return -XEN_ESRCH; /* no other domain is reachable from here yet */
    if (!remote || remote->state != EVTCHNSTAT_unbound ||
        remote->remote_dom != shared->domid)
        return -XEN_EINVAL;
    rc = alloc_port(&port);
    if (rc)
        return rc;
    ports[port] = (struct port){
        .state = EVTCHNSTAT_interdomain,
        .remote_dom = (uint16_t)shared->domid,
        .remote_port = (uint16_t)op->remote_port,
    };
    remote->state = EVTCHNSTAT_interdomain;
    remote->remote_port = (uint16_t)port;
    op->local_port = port;
    evtchn_set_pending(v, port); /* a new end may have missed events */
    return 0;
}

static int bind_virq(struct evtchn_bind_virq *op)
{
    struct vcpu *to;
    uint32_t port;
    int rc;

    if (op->virq >= NR_VIRQS)
        return -XEN_EINVAL;
    if (op->vcpu >= shared->nr_vcpus)
        return -XEN_ENOENT;
    to = vcpu_by_id(op->vcpu);
    if (to->virq_port[op->virq])
        return -XEN_EEXIST;
    rc = alloc_port(&port);
    if (rc)
        return rc;
    ports[port] = (struct port){
        .state = EVTCHNSTAT_virq,
        .vcpu = (uint8_t)op->vcpu,
        .virq = (uint16_t)op->virq,
    };
    to->virq_port[op->virq] = (uint16_t)port;
    op->port = port;
    return 0;
}

static int bind_ipi(struct evtchn_bind_ipi *op)
{
    uint32_t port;
    int rc;

    if (op->vcpu >= shared->nr_vcpus)
        return -XEN_ENOENT;
    rc = alloc_port(&port);
    if (rc)
        return rc;
    ports[port] = (struct port){
        .state = EVTCHNSTAT_ipi,
        .vcpu = (uint8_t)op->vcpu,
    };
    op->port = port;
    return 0;
}

static int close_port(uint32_t nr)
{
    struct port *p = port_of(nr);

    if (!p || p->state == EVTCHNSTAT_closed)
        return -XEN_EINVAL;
    if (p->state == EVTCHNSTAT_virq)
        target(p)->virq_port[p->virq] = 0;
    if (p->state == EVTCHNSTAT_interdomain && p->remote_port) {
        struct port *remote = &ports[p->remote_port];

        remote->state = EVTCHNSTAT_unbound;
        remote->remote_port = 0;
    }
    *p = (struct port){.state = EVTCHNSTAT_closed};
    clear_bit(pending_words, nr);
    return 0;
}

static int send(struct vcpu *v, uint32_t nr)
{
    struct port *p = port_of(nr);

    if (!p)
        return -XEN_EINVAL;
    switch (p->state) {
    case EVTCHNSTAT_interdomain:
        if (p->remote_port)
            evtchn_set_pending(v, p->remote_port);
        else
            outl(EMU_PORT_NOTIFY, nr);
        return 0;
    case EVTCHNSTAT_ipi:
        evtchn_set_pending(v, nr);
        return 0;
    case EVTCHNSTAT_unbound:
        /* Somebody outside may have bound it meanwhile. Nobody there:
         * dropped, as Xen does. */
        if (shared->flags & EMU_FLAG_EVTCHND)
            outl(EMU_PORT_NOTIFY, nr);
        return 0;
    default:
        return -XEN_EINVAL;
    }
}

static int status(struct evtchn_status *op)
{
    struct port *p = port_of(op->port);

    if (!is_self(op->dom))
        return -XEN_ESRCH;
    if (!p)
        return -XEN_EINVAL;
    op->status = p->state;
    op->vcpu = p->vcpu;
    if (p->state == EVTCHNSTAT_unbound) {
        op->u.unbound.dom = p->remote_dom;
    } else if (p->state == EVTCHNSTAT_interdomain) {
        op->u.interdomain.dom = p->remote_dom;
        op->u.interdomain.port = p->remote_port;
    } else if (p->state == EVTCHNSTAT_virq) {
        op->u.virq = p->virq;
    }
    return 0;
}

static int bind_vcpu(const struct evtchn_bind_vcpu *op)
{
    struct port *p = port_of(op->port);

    if (op->vcpu >= shared->nr_vcpus)
        return -XEN_ENOENT;
    if (!p ||
        (p->state != EVTCHNSTAT_unbound && p->state != EVTCHNSTAT_interdomain &&
         !(p->state == EVTCHNSTAT_virq && p->virq != VIRQ_TIMER &&
           p->virq != VIRQ_DEBUG && p->virq != VIRQ_XENOPROF)))
        return -XEN_EINVAL;
    p->vcpu = (uint8_t)op->vcpu;
    return 0;
}

static int unmask(struct vcpu *v, uint32_t nr)
{
    struct port *p = port_of(nr);

    if (!p)
        return -XEN_EINVAL;
    clear_bit(mask_words, nr);
    if (test_bit(pending_words, nr)) {
        struct vcpu *to = target(p);

        if (!test_and_set_bit((uint64_t *)&to->info->evtchn_pending_sel,
                              nr / 64))
            vcpu_mark_pending(v, to);
    }
    return 0;
}

static int reset(const struct evtchn_reset *op)
{
    if (!is_self(op->dom))
        return -XEN_EPERM;
    for (uint32_t i = 1; i < EMU_NR_EVTCHN; i++)
        close_port(i);
    return 0;
}

/* Bytes of each operation's argument, 0: not known. */
static const uint8_t argument_bytes[] = {
    [EVTCHNOP_bind_interdomain] = sizeof(struct evtchn_bind_interdomain),
    [EVTCHNOP_bind_virq] = sizeof(struct evtchn_bind_virq),
    [EVTCHNOP_close] = sizeof(struct evtchn_close),
    [EVTCHNOP_send] = sizeof(struct evtchn_send),
    [EVTCHNOP_status] = sizeof(struct evtchn_status),
    [EVTCHNOP_alloc_unbound] = sizeof(struct evtchn_alloc_unbound),
    [EVTCHNOP_bind_ipi] = sizeof(struct evtchn_bind_ipi),
    [EVTCHNOP_bind_vcpu] = sizeof(struct evtchn_bind_vcpu),
    [EVTCHNOP_unmask] = sizeof(struct evtchn_unmask),
    [EVTCHNOP_reset] = sizeof(struct evtchn_reset),
};

union argument {
    struct evtchn_bind_interdomain bind_interdomain;
    struct evtchn_bind_virq bind_virq;
    struct evtchn_close close;
    struct evtchn_send send;
    struct evtchn_status status;
    struct evtchn_alloc_unbound alloc_unbound;
    struct evtchn_bind_ipi bind_ipi;
    struct evtchn_bind_vcpu bind_vcpu;
    struct evtchn_unmask unmask;
    struct evtchn_reset reset;
};

/* All that changes or tells what a port is, in the table that is ours. */
static int decide(struct vcpu *v, uint64_t cmd, union argument *op)
{
    switch (cmd) {
    case EVTCHNOP_alloc_unbound:
        return alloc_unbound(&op->alloc_unbound);
    case EVTCHNOP_bind_interdomain:
        return bind_interdomain(v, &op->bind_interdomain);
    case EVTCHNOP_bind_virq:
        return bind_virq(&op->bind_virq);
    case EVTCHNOP_bind_ipi:
        return bind_ipi(&op->bind_ipi);
    case EVTCHNOP_status:
        return status(&op->status);
    case EVTCHNOP_close:
        return close_port(op->close.port);
    case EVTCHNOP_bind_vcpu:
        return bind_vcpu(&op->bind_vcpu);
    default:
        return reset(&op->reset);
    }
}

/* Have evtchnd decide. */
static int ask(struct vcpu *v, uint64_t cmd, union argument *op)
{
    struct emu_request *r = &v->pub.request;

    r->arg[0] = cmd;
    r->length = argument_bytes[cmd];
    memcpy(r->data, op, argument_bytes[cmd]);
    request(v, EMU_REQUEST_EVTCHN);
    memcpy(op, r->data, argument_bytes[cmd]);
    return (int)r->result;
}

/* Note a new port that evtchnd has given us. */
static void note_port(uint32_t nr, struct port port)
{
    struct port *p = port_of(nr);

    BUG_ON(!p);
    clear_bit(pending_words, nr);
    *p = port;
}

static void note_interdomain(struct vcpu *v,
                             const struct evtchn_bind_interdomain *op)
{
    bool is_loop = is_self(op->remote_dom);
    struct port *remote = port_of(op->remote_port);

    note_port(op->local_port,
              (struct port){
                  .state = EVTCHNSTAT_interdomain,
                  .remote_dom = op->remote_dom,
                  .remote_port = is_loop ? (uint16_t)op->remote_port : 0,
              });
    if (is_loop && remote) {
        remote->state = EVTCHNSTAT_interdomain;
        remote->remote_port = (uint16_t)op->local_port;
    }
    evtchn_set_pending(v, op->local_port);
}

/* Remember what evtchnd has decided. */
static void note(struct vcpu *v, uint64_t cmd, const union argument *op)
{
    switch (cmd) {
    case EVTCHNOP_alloc_unbound:
        note_port(op->alloc_unbound.port,
                  (struct port){.state = EVTCHNSTAT_unbound,
                                .remote_dom = op->alloc_unbound.remote_dom});
        break;
    case EVTCHNOP_bind_interdomain:
        note_interdomain(v, &op->bind_interdomain);
        break;
    case EVTCHNOP_bind_virq:
        note_port(op->bind_virq.port,
                  (struct port){.state = EVTCHNSTAT_virq,
                                .vcpu = (uint8_t)op->bind_virq.vcpu,
                                .virq = (uint16_t)op->bind_virq.virq});
        vcpu_by_id(op->bind_virq.vcpu)->virq_port[op->bind_virq.virq] =
            (uint16_t)op->bind_virq.port;
        break;
    case EVTCHNOP_bind_ipi:
        note_port(op->bind_ipi.port,
                  (struct port){.state = EVTCHNSTAT_ipi,
                                .vcpu = (uint8_t)op->bind_ipi.vcpu});
        break;
    case EVTCHNOP_close:
        close_port(op->close.port);
        break;
    case EVTCHNOP_bind_vcpu:
        bind_vcpu(&op->bind_vcpu);
        break;
    case EVTCHNOP_reset:
        reset(&op->reset);
        break;
    default:
        break;
    }
}

int64_t do_event_channel_op(struct vcpu *v, uint64_t cmd, uint64_t arg,
                            uint64_t a3, uint64_t a4, uint64_t a5)
{
    union argument op;
    int rc;

    (void)a3, (void)a4, (void)a5;
    if (cmd >= ARRAY_SIZE(argument_bytes) || !argument_bytes[cmd])
        return -XEN_ENOSYS;
    if (copy_from_guest(&op, arg, argument_bytes[cmd]))
        return -XEN_EFAULT;
    if (cmd == EVTCHNOP_send)
        return send(v, op.send.port);
    if (cmd == EVTCHNOP_unmask)
        return unmask(v, op.unmask.port);
    if (shared->flags & EMU_FLAG_EVTCHND) {
        rc = ask(v, cmd, &op);
        if (!rc)
            note(v, cmd, &op);
    } else {
        rc = decide(v, cmd, &op);
    }
    if (!rc && copy_to_guest(arg, &op, argument_bytes[cmd]))
        rc = -XEN_EFAULT;
    return rc;
}

/* The interface before Xen 3.2: command and argument in one structure. */
int64_t do_event_channel_op_compat(struct vcpu *v, uint64_t arg, uint64_t a2,
                                   uint64_t a3, uint64_t a4, uint64_t a5)
{
    uint32_t cmd;

    (void)a2;
    if (copy_from_guest(&cmd, arg, sizeof(cmd)))
        return -XEN_EFAULT;
    return do_event_channel_op(v, cmd, arg + 8, a3, a4, a5);
}
