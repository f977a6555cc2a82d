/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the other files ask of evtchnd, over the handle's connection. */
#include <errno.h>
#include <time.h>

#include "handle.h"

#define RETRY_NS 50000000

/*
 * A hypervisor is never away, and xenstored takes a call that fails for the
 * death of the domain that it asks about: it would let go of every guest while
 * evtchnd is restarted. So wait for evtchnd, as long as it takes.
 */
static int connect_again(xencall_handle *xcall)
{
    const struct timespec pause = {.tv_nsec = RETRY_NS};
    struct evtchnd_answer hello;

    while (evtchnd_reconnect(&xcall->client, -1, -1, &hello)) {
        /* EAGAIN: it has the socket already, and is not there yet. */
        if (!evtchnd_is_lost(errno) && errno != EAGAIN)
            return -errno;
        nanosleep(&pause, NULL);
    }
    evtchnd_discard(&hello);
    return 0;
}

int call_evtchnd(xencall_handle *xcall, struct evtchnd_request *request,
                 struct evtchnd_reply *reply)
{
    struct evtchnd_answer answer;
    int rc;

    while (evtchnd_call(&xcall->client, request, -1, -1, &answer)) {
        if (!evtchnd_is_lost(errno))
            return -errno;
        rc = connect_again(xcall);
        if (rc)
            return rc;
    }
    *reply = answer.reply;
    evtchnd_discard(&answer);
    return 0;
}
