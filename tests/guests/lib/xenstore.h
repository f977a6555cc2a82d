/* SPDX-License-Identifier: GPL-2.0-or-later */
/* xenstore over the ring: io/xs_wire.h. Events are to be enabled. */
#ifndef TESTS_GUESTS_XENSTORE_H
#define TESTS_GUESTS_XENSTORE_H

#include "tests/guests/lib/guest.h"

#include <xen/io/xs_wire.h>

#define STORE_REPLY 256U

/* A string literal as a request's body, its last NUL with it or without. */
#define STRINGS(text) text, sizeof(text)
#define BYTES(text) text, sizeof(text) - 1

extern struct xenstore_domain_interface *store_ring;
/* Watch events that came, and the path that the last one named. */
extern uint32_t store_events;
extern char store_event[STORE_REPLY];

void store_init(void);
/*
 * One request; the type of its answer: the request's own or XS_ERROR. What it
 * says stands in *reply, with a NUL.
 */
uint32_t store_call(uint32_t type, uint32_t tx, const char *body,
                    uint32_t length, char reply[STORE_REPLY]);
/* The same in its halves: many can be asked before the first answer. */
void store_send(uint32_t type, uint32_t tx, const char *body, uint32_t length);
uint32_t store_receive(char reply[STORE_REPLY]);
/* Blocked until a watch has fired that this has not returned for. */
void store_wait_event(void);

/* Blocked until a port's count is another one. */
void wait_event(evtchn_port_t port, uint32_t count);

#endif
