/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One shared ring: io/ring.h's protocol, with a frontend that may lie. Both of
 * a queue's rings begin with the same four indices.
 */
#ifndef NETBACKD_RING_H
#define NETBACKD_RING_H

#include <stdbool.h>
#include <stdint.h>

#include <xenevtchn.h>
#include <xengnttab.h>

/* As at the start of every sring; shared: each is read once. */
struct ring_indices {
    uint32_t req_prod, req_event;
    uint32_t rsp_prod, rsp_event;
};

struct ring {
    struct ring_indices *shared; /* NULL: not attached */
    char *slots;
    uint32_t nr_slots, slot_bytes;
    uint32_t req_cons;     /* requests taken */
    uint32_t rsp_prod;     /* responses written ... */
    uint32_t rsp_notified; /* ... and published */
    evtchn_port_t port;
};

/* Map a page as a ring of such slots; 0 or -errno. */
int ring_attach(struct ring *ring, xengnttab_handle *xgt, uint32_t domid,
                uint32_t ref, uint32_t slot_bytes, uint32_t nr_slots);
void ring_detach(struct ring *ring, xengnttab_handle *xgt);

/* A slot's place: requests are copied from it, responses written to it. */
char *ring_slot(const struct ring *ring, uint32_t index);

/* Where requests end; -EPROTO if the ring has no room for that many. */
int ring_producer(const struct ring *ring, uint32_t *prod);

/*
 * Have the frontend send an event when it has one more request. True: there is
 * none by now, and the event will come.
 */
bool ring_is_quiet(struct ring *ring);

/*
 * Have the frontend find the responses, if it looks. After each packet: they
 * stand where their requests stood, and whoever comes after us, had we been
 * killed, would take them for requests.
 */
void ring_store(struct ring *ring);

/* Have the frontend see the responses. True: it wants an event for them. */
bool ring_publish(struct ring *ring);

#endif
