/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libxencall: hypercalls that the host makes, answered in this process. */
#ifndef LIBS_CALL_HANDLE_H
#define LIBS_CALL_HANDLE_H

#include <stdbool.h>
#include <stdint.h>

#include <xencall.h>

#define __XEN_TOOLS__ 1
#include <xen/domctl.h>
#include <xen/sysctl.h>

#include "libs/client/active.h"
#include "libs/client/client.h"

struct xencall_handle {
    struct active_handle active;
    struct evtchnd_client client;
    bool is_restricted; /* answers nothing more */
};

/* evtchnd.c */
/* Ask evtchnd, once more if the connection was lost. 0 or -errno. */
int call_evtchnd(xencall_handle *xcall, struct evtchnd_request *request,
                 struct evtchnd_reply *reply);

/* Is it a domctl's or sysctl's interface_version that we know? */
bool is_known_version(uint32_t version);

/* Each returns what Xen's would: >= 0, or -errno. */
long do_domctl(xencall_handle *xcall, void *arg);
long do_sysctl(xencall_handle *xcall, void *arg);
long domain_list(xencall_handle *xcall,
                 struct xen_sysctl_getdomaininfolist *op);
long do_xen_version(unsigned int cmd, void *arg);
long do_event_channel_op(xencall_handle *xcall, unsigned int cmd, void *arg);

#endif
