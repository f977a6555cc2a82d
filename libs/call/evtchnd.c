/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the other files ask of evtchnd, over the handle's connection. */
#include <errno.h>

#include "handle.h"

int call_evtchnd(xencall_handle *xcall, struct evtchnd_request *request,
                 struct evtchnd_reply *reply)
{
    struct evtchnd_answer answer;

    if (evtchnd_call(&xcall->client, request, -1, -1, &answer)) {
        if (!evtchnd_is_lost(errno) ||
            evtchnd_reconnect(&xcall->client, -1, -1, &answer))
            return -errno;
        evtchnd_discard(&answer);
        if (evtchnd_call(&xcall->client, request, -1, -1, &answer))
            return -errno;
    }
    *reply = answer.reply;
    evtchnd_discard(&answer);
    return 0;
}
