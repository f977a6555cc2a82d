/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server that says anything: the client and libxenevtchn must fail without
 * crashing, leaking or waiting for ever.
 */
#include "tests/native/anything.h"
#include "tests/native/harness.h"

#include <poll.h>

#include <xenevtchn.h>

#define NR_CLIENTS 400

static unsigned int use_once(void)
{
    xenevtchn_handle *xce = xenevtchn_open(NULL, 0);
    struct pollfd fd;
    unsigned int bound = 0;
    int port;

    if (!xce)
        return 0;
    for (int i = 0; i < 6; i++) {
        port = i & 1 ? xenevtchn_bind_unbound_port(xce, 0)
                     : xenevtchn_bind_interdomain(xce, 0, 3);
        bound += port > 0;
        if (port > 0)
            xenevtchn_notify(xce, (evtchn_port_t)port);
        fd = (struct pollfd){.fd = xenevtchn_fd(xce), .events = POLLIN};
        if (bound && poll(&fd, 1, 0) == 1)
            xenevtchn_unmask(xce, (evtchn_port_t)xenevtchn_pending(xce));
        if (port > 0 && i > 3)
            xenevtchn_unbind(xce, (evtchn_port_t)port);
    }
    xenevtchn_close(xce);
    return 1;
}

TEST(a_server_that_says_anything)
{
    unsigned int before, opened = 0;

    start_server(0x9e3779b97f4a7c15);
    before = nr_fds();
    for (int i = 0; i < NR_CLIENTS; i++)
        opened += use_once();
    /* Of enough of them more than the first message was looked at. */
    CHECK(opened > NR_CLIENTS / 8);
    stop_server();
    CHECK_EQ(nr_fds(), before);
    close(listener);
}
