/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One end of a channel whose other end is a guest that answers each event
 * (tests/guests/outside.c). Prints microseconds for a round trip, through
 * libxenevtchn.
 *
 *     evtchn_guest DOMID PORT ROUNDS
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <xenevtchn.h>

static void must(int is_true, const char *what)
{
    if (!is_true) {
        perror(what);
        exit(1);
    }
}

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void wait_event(xenevtchn_handle *xce, evtchn_port_t port)
{
    must(xenevtchn_pending(xce) == (int)port, "pending");
    must(!xenevtchn_unmask(xce, port), "unmask");
}

int main(int argc, char **argv)
{
    xenevtchn_handle *xce = xenevtchn_open(NULL, 0);
    evtchn_port_t port;
    double began_us;
    long rounds;
    int bound;

    if (argc != 4)
        return 2;
    rounds = atol(argv[3]);
    must(xce != NULL, "xenevtchn_open");
    bound = xenevtchn_bind_interdomain(xce, (uint32_t)atoi(argv[1]),
                                       (evtchn_port_t)atoi(argv[2]));
    must(bound > 0, "bind_interdomain");
    port = (evtchn_port_t)bound;
    wait_event(xce, port); /* A new channel is pending at once. */
    began_us = now_us();
    for (long i = 0; i < rounds; i++) {
        must(!xenevtchn_notify(xce, port), "notify");
        wait_event(xce, port);
    }
    printf("%.4f\n", (now_us() - began_us) / (double)rounds);
    return xenevtchn_close(xce);
}
