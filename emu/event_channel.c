/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each port is: event_channel_op but for sending. The table below is all
 * there is for a domain that is alone. With EMU_FLAG_EVTCHND evtchnd has the
 * table, and ours mirrors what sending and receiving need of it.
 */
#include "emu/event.h"

static void write_evtchn(uint32_t nr, struct evtchn p)
{
    uint64_t word;

    __builtin_memcpy(&word, &p, sizeof(word));
    __atomic_store_n(&emu_machine.evtchn[nr], word, __ATOMIC_SEQ_CST);
}

void evtchn_init(void)
{
    uint32_t store = shared->store_port, console = shared->console_port;

    if (port_exists(store))
        write_evtchn(store, (struct evtchn){.state = EVTCHNSTAT_interdomain});
    if (port_exists(console))
        write_evtchn(console, (struct evtchn){.state = EVTCHNSTAT_interdomain,
                                              .is_console = true});
}

static int alloc_port(uint32_t *port)
{
    for (uint32_t i = 1; i < EMU_NR_EVTCHN; i++) {
        if (read_evtchn(i).state == EVTCHNSTAT_closed) {
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
    write_evtchn(port, (struct evtchn){
                           .state = EVTCHNSTAT_unbound,
                           .remote_dom = op->remote_dom == DOMID_SELF
                                             ? (uint16_t)shared->domid
                                             : op->remote_dom,
                       });
    op->port = port;
    return 0;
}

/* The other end of port nr is port `to` of this domain. */
static void connect(uint32_t nr, uint32_t to)
{
    struct evtchn p = read_evtchn(nr);

    p.state = EVTCHNSTAT_interdomain;
    p.remote_port = (uint16_t)to;
    write_evtchn(nr, p);
}

/* Both ends in this domain: a loop, as Xen allows. */
static int bind_interdomain(struct evtchn_bind_interdomain *op)
{
    struct evtchn remote;
    uint32_t port;
    int rc;

    if (!is_self(op->remote_dom))
        return -XEN_ESRCH; /* no other domain is reachable from here yet */
    if (!port_exists(op->remote_port))
        return -XEN_EINVAL;
    remote = read_evtchn(op->remote_port);
    if (remote.state != EVTCHNSTAT_unbound ||
        remote.remote_dom != shared->domid)
        return -XEN_EINVAL;
    rc = alloc_port(&port);
    if (rc)
        return rc;
    write_evtchn(port, (struct evtchn){
                           .state = EVTCHNSTAT_interdomain,
                           .remote_dom = (uint16_t)shared->domid,
                           .remote_port = (uint16_t)op->remote_port,
                       });
    connect(op->remote_port, port);
    op->local_port = port;
    evtchn_set_pending(port); /* a new end may have missed events */
    return 0;
}

/* Each vCPU has one; the others are the domain's, and vCPU 0 has them. */
static bool is_vcpu_virq(uint32_t virq)
{
    return virq == VIRQ_TIMER || virq == VIRQ_DEBUG || virq == VIRQ_XENOPROF ||
           virq == VIRQ_XENPMU;
}

static int bind_virq(struct evtchn_bind_virq *op)
{
    struct vcpu *to;
    uint32_t port;
    int rc;

    if (op->virq >= NR_VIRQS || (op->vcpu != 0 && !is_vcpu_virq(op->virq)))
        return -XEN_EINVAL;
    if (op->vcpu >= shared->nr_vcpus)
        return -XEN_ENOENT;
    to = vcpu_by_id(op->vcpu);
    if (to->virq_port[op->virq])
        return -XEN_EEXIST;
    rc = alloc_port(&port);
    if (rc)
        return rc;
    write_evtchn(port, (struct evtchn){
                           .state = EVTCHNSTAT_virq,
                           .vcpu = (uint8_t)op->vcpu,
                           .virq = (uint8_t)op->virq,
                           .virq_vcpu = (uint8_t)op->vcpu,
                       });
    WRITE_ONCE(to->virq_port[op->virq], (uint16_t)port);
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
    write_evtchn(port, (struct evtchn){
                           .state = EVTCHNSTAT_ipi,
                           .vcpu = (uint8_t)op->vcpu,
                       });
    op->port = port;
    return 0;
}

static int close_port(uint32_t nr)
{
    struct evtchn p;

    if (!port_exists(nr) || read_evtchn(nr).state == EVTCHNSTAT_closed)
        return -XEN_EINVAL;
    p = read_evtchn(nr);
    if (p.state == EVTCHNSTAT_virq)
        WRITE_ONCE(vcpu_by_id(p.virq_vcpu)->virq_port[p.virq], 0);
    if (p.state == EVTCHNSTAT_interdomain && p.remote_port) {
        struct evtchn remote = read_evtchn(p.remote_port);

        remote.state = EVTCHNSTAT_unbound;
        remote.remote_port = 0;
        write_evtchn(p.remote_port, remote);
    }
    write_evtchn(nr, (struct evtchn){.state = EVTCHNSTAT_closed});
    evtchn_clear_pending(nr);
    return 0;
}

static int status(struct evtchn_status *op)
{
    struct evtchn p;

    if (!is_self(op->dom))
        return -XEN_ESRCH;
    if (!port_exists(op->port))
        return -XEN_EINVAL;
    p = read_evtchn(op->port);
    op->status = p.state;
    op->vcpu = p.vcpu;
    if (p.state == EVTCHNSTAT_unbound) {
        op->u.unbound.dom = p.remote_dom;
    } else if (p.state == EVTCHNSTAT_interdomain) {
        op->u.interdomain.dom = p.remote_dom;
        op->u.interdomain.port = p.remote_port;
    } else if (p.state == EVTCHNSTAT_virq) {
        op->u.virq = p.virq;
    }
    return 0;
}

static int bind_vcpu(const struct evtchn_bind_vcpu *op)
{
    struct evtchn p;

    if (op->vcpu >= shared->nr_vcpus)
        return -XEN_ENOENT;
    if (!port_exists(op->port))
        return -XEN_EINVAL;
    p = read_evtchn(op->port);
    if (p.state != EVTCHNSTAT_unbound && p.state != EVTCHNSTAT_interdomain &&
        !(p.state == EVTCHNSTAT_virq && !is_vcpu_virq(p.virq)))
        return -XEN_EINVAL;
    p.vcpu = (uint8_t)op->vcpu;
    write_evtchn(op->port, p);
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
    struct evtchn_bind_pirq bind_pirq;
    struct evtchn_bind_vcpu bind_vcpu;
    struct evtchn_unmask unmask;
    struct evtchn_reset reset;
};

/* What changes or tells what a port is, in the domain's own table. */
static int local_op(uint64_t cmd, union argument *op)
{
    switch (cmd) {
    case EVTCHNOP_alloc_unbound:
        return alloc_unbound(&op->alloc_unbound);
    case EVTCHNOP_bind_interdomain:
        return bind_interdomain(&op->bind_interdomain);
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

/* The same in evtchnd's table. */
static int evtchnd_op(struct vcpu *v, uint64_t cmd, union argument *op)
{
    struct emu_request *r = &v->pub.request;

    r->arg[0] = cmd;
    r->length = argument_bytes[cmd];
    memcpy(r->data, op, argument_bytes[cmd]);
    request(v, EMU_REQUEST_EVTCHN);
    memcpy(op, r->data, argument_bytes[cmd]);
    return (int)r->result;
}

/* A new port, which evtchnd has allocated. */
static void mirror_port(uint32_t nr, struct evtchn port)
{
    BUG_ON(!port_exists(nr));
    evtchn_clear_pending(nr);
    write_evtchn(nr, port);
}

static void mirror_interdomain(const struct evtchn_bind_interdomain *op)
{
    bool is_loop = is_self(op->remote_dom);

    mirror_port(op->local_port,
                (struct evtchn){
                    .state = EVTCHNSTAT_interdomain,
                    .remote_dom = op->remote_dom,
                    .remote_port = is_loop ? (uint16_t)op->remote_port : 0,
                });
    if (is_loop && port_exists(op->remote_port))
        connect(op->remote_port, op->local_port);
    evtchn_set_pending(op->local_port);
}

/* Repeat in our table what evtchnd has done in its own. */
static void mirror_op(uint64_t cmd, const union argument *op)
{
    switch (cmd) {
    case EVTCHNOP_alloc_unbound:
        mirror_port(
            op->alloc_unbound.port,
            (struct evtchn){.state = EVTCHNSTAT_unbound,
                            .remote_dom = op->alloc_unbound.remote_dom});
        break;
    case EVTCHNOP_bind_interdomain:
        mirror_interdomain(&op->bind_interdomain);
        break;
    case EVTCHNOP_bind_virq:
        mirror_port(op->bind_virq.port,
                    (struct evtchn){.state = EVTCHNSTAT_virq,
                                    .vcpu = (uint8_t)op->bind_virq.vcpu,
                                    .virq = (uint8_t)op->bind_virq.virq,
                                    .virq_vcpu = (uint8_t)op->bind_virq.vcpu});
        WRITE_ONCE(
            vcpu_by_id(op->bind_virq.vcpu)->virq_port[op->bind_virq.virq],
            (uint16_t)op->bind_virq.port);
        break;
    case EVTCHNOP_bind_ipi:
        mirror_port(op->bind_ipi.port,
                    (struct evtchn){.state = EVTCHNSTAT_ipi,
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

int64_t do_event_channel_op(struct vcpu *v, guest_word cmd, guest_word arg,
                            guest_word a3, guest_word a4, guest_word a5)
{
    union argument op;
    int rc;

    if (cmd == EVTCHNOP_bind_pirq) /* no interrupt is this domain's */
        return copy_from_guest(&op, arg, sizeof(op.bind_pirq)) ? -XEN_EFAULT
                                                               : -XEN_EPERM;
    if (cmd >= ARRAY_SIZE(argument_bytes) || !argument_bytes[cmd])
        return -XEN_ENOSYS;
    if (copy_from_guest(&op, arg, argument_bytes[cmd]))
        return -XEN_EFAULT;
    if (cmd == EVTCHNOP_send)
        return evtchn_send(op.send.port);
    if (cmd == EVTCHNOP_unmask)
        return evtchn_unmask(op.unmask.port);
    /* Under the lock: in the order in which evtchnd did them. */
    lock(v, &emu_machine.evtchn_lock);
    if (shared->flags & EMU_FLAG_EVTCHND) {
        rc = evtchnd_op(v, cmd, &op);
        if (!rc)
            mirror_op(cmd, &op);
    } else {
        rc = local_op(cmd, &op);
    }
    unlock(&emu_machine.evtchn_lock);
    if (!rc && copy_to_guest(arg, &op, argument_bytes[cmd]))
        rc = -XEN_EFAULT;
    return rc;
}

/* The interface before Xen 3.2: command and argument in one structure. */
int64_t do_event_channel_op_compat(struct vcpu *v, guest_word arg,
                                   guest_word a2, guest_word a3, guest_word a4,
                                   guest_word a5)
{
    evtchn_op_t op;

    /* All of it, as Xen: a short one at the end of what is mapped fails. */
    if (copy_from_guest(&op, arg, sizeof(op)))
        return -XEN_EFAULT;
    if (op.cmd > EVTCHNOP_unmask) /* what there was then */
        return -XEN_ENOSYS;
    return do_event_channel_op(v, op.cmd, arg + offsetof(evtchn_op_t, u), a3,
                               a4, a5);
}
