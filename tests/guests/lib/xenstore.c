/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/guests/lib/xenstore.h"

struct xenstore_domain_interface *store_ring;
uint32_t store_events;
char store_event[STORE_REPLY];

static evtchn_port_t port;
static uint32_t events_told;

void store_init(void)
{
    store_ring = va_of_mfn(start_info->store_mfn);
    port = start_info->store_evtchn;
    evtchn_unmask(port);
}

void wait_event(evtchn_port_t of, uint32_t count)
{
    for (;;) {
        events_disable();
        if (READ_ONCE(event_count[of]) != count)
            break;
        /* Enables events before it blocks, so none is missed. */
        CALL(sched_op, SCHEDOP_block, 0);
    }
    events_enable();
}

static void put(const void *data, uint32_t length)
{
    const char *from = data;
    XENSTORE_RING_IDX prod = store_ring->req_prod;

    for (;;) {
        uint32_t count = READ_ONCE(event_count[port]);

        if (prod - READ_ONCE(store_ring->req_cons) + length <=
            XENSTORE_RING_SIZE)
            break;
        wait_event(port, count);
    }
    for (uint32_t i = 0; i < length; i++)
        store_ring->req[MASK_XENSTORE_IDX(prod + i)] = from[i];
    barrier(); /* The bytes before the index that announces them. */
    store_ring->req_prod = prod + length;
}

static void get(void *data, uint32_t length)
{
    XENSTORE_RING_IDX cons = store_ring->rsp_cons;
    char *to = data;

    for (;;) {
        uint32_t count = READ_ONCE(event_count[port]);

        if (READ_ONCE(store_ring->rsp_prod) - cons >= length)
            break;
        wait_event(port, count);
    }
    barrier(); /* The index before the bytes that it announces. */
    for (uint32_t i = 0; i < length; i++)
        to[i] = store_ring->rsp[MASK_XENSTORE_IDX(cons + i)];
    barrier();
    store_ring->rsp_cons = cons + length;
}

/* The next message, with a NUL behind it; its type. */
static uint32_t next_message(char body[STORE_REPLY])
{
    struct xsd_sockmsg message;

    get(&message, sizeof(message));
    if (message.len >= STORE_REPLY)
        panic("xenstore: a long message");
    get(body, message.len);
    body[message.len] = 0;
    /* Who had no room for it waits to be told that there is some. */
    evtchn_send(port);
    if (message.type == XS_WATCH_EVENT) {
        memcpy(store_event, body, message.len + 1);
        store_events++;
    }
    return message.type;
}

void store_send(uint32_t type, uint32_t tx, const char *body, uint32_t length)
{
    struct xsd_sockmsg message = {.type = type, .tx_id = tx, .len = length};

    put(&message, sizeof(message));
    put(body, length);
    evtchn_send(port);
}

uint32_t store_receive(char reply[STORE_REPLY])
{
    uint32_t type;

    do
        type = next_message(reply);
    while (type == XS_WATCH_EVENT);
    return type;
}

uint32_t store_call(uint32_t type, uint32_t tx, const char *body,
                    uint32_t length, char reply[STORE_REPLY])
{
    store_send(type, tx, body, length);
    return store_receive(reply);
}

void store_wait_event(void)
{
    static char body[STORE_REPLY];

    while (store_events == events_told)
        next_message(body);
    events_told++;
}
