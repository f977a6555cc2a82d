/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* event_channel_op on ports of any domain: evtchnd has them. */
#include "handle.h"

#include <errno.h>

#include <xen/event_channel.h>

static long status(xencall_handle *xcall, struct evtchn_status *op)
{
    struct evtchnd_request request = {
        .type = EVTCHND_STATUS,
        .dom = op->dom,
        .port = op->port,
    };
    struct evtchnd_reply reply;
    int rc = call_evtchnd(xcall, &request, &reply);

    if (rc)
        return rc;
    op->status = reply.status;
    op->vcpu = reply.vcpu;
    if (reply.status == EVTCHNSTAT_unbound) {
        op->u.unbound.dom = (domid_t)reply.remote_dom;
    } else if (reply.status == EVTCHNSTAT_interdomain) {
        op->u.interdomain.dom = (domid_t)reply.remote_dom;
        op->u.interdomain.port = reply.remote_port;
    } else if (reply.status == EVTCHNSTAT_virq) {
        op->u.virq = reply.virq;
    }
    return 0;
}

/* Of another domain: one of our own would end with this connection. */
static long alloc_unbound(xencall_handle *xcall,
                          struct evtchn_alloc_unbound *op)
{
    struct evtchnd_request request = {
        .type = EVTCHND_ALLOC_UNBOUND,
        .dom = op->dom,
        .remote_dom = op->remote_dom,
    };
    struct evtchnd_reply reply;
    int rc = call_evtchnd(xcall, &request, &reply);

    if (!rc)
        op->port = reply.port;
    return rc;
}

long do_event_channel_op(xencall_handle *xcall, unsigned int cmd, void *arg)
{
    struct evtchnd_request request = {.type = EVTCHND_RESET};
    struct evtchnd_reply reply;

    switch (cmd) {
    case EVTCHNOP_status:
        return status(xcall, arg);
    case EVTCHNOP_alloc_unbound:
        return alloc_unbound(xcall, arg);
    case EVTCHNOP_reset:
        request.dom = ((struct evtchn_reset *)arg)->dom;
        return call_evtchnd(xcall, &request, &reply);
    default:
        return -ENOSYS;
    }
}
