/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest with nothing but its channels to the outside: how fast are they?
 * It is for bench/, which says on the command line what is wanted.
 *
 * echo           answer each event of a port that the console names
 * store=OP       make requests of a kind over xenstore's ring for half a
 *                second; the console has how many, in how many nanoseconds
 */
#include "tests/guests/lib/guest.h"

#include <xen/io/xs_wire.h>

const char guest_name[] = "outside";

#define DURATION_NS 500000000UL

static struct xenstore_domain_interface *ring;
static evtchn_port_t store_port;
static uint32_t last_req_id;

/* Blocked until a port's count is another one. */
static void wait_event(evtchn_port_t port, uint32_t count)
{
    for (;;) {
        events_disable();
        if (READ_ONCE(event_count[port]) != count)
            break;
        /* Enables events before it blocks, so none is missed. */
        CALL(sched_op, SCHEDOP_block, 0);
    }
    events_enable();
}

static void echo(void)
{
    struct evtchn_alloc_unbound alloc = {.dom = DOMID_SELF, .remote_dom = 0};
    int64_t rc = CALL(event_channel_op, EVTCHNOP_alloc_unbound, &alloc);
    uint32_t answered = 0;

    if (rc)
        panic("no port");
    evtchn_unmask(alloc.port);
    print("port %u\n", alloc.port);
    for (;;) {
        wait_event(alloc.port, answered++);
        evtchn_send(alloc.port);
    }
}

/* --- xenstore over the ring: io/xs_wire.h --- */

static void put(const void *data, uint32_t length)
{
    const char *from = data;
    XENSTORE_RING_IDX prod = ring->req_prod;

    for (uint32_t i = 0; i < length; i++)
        ring->req[MASK_XENSTORE_IDX(prod + i)] = from[i];
    barrier(); /* The bytes before the index that announces them. */
    ring->req_prod = prod + length;
}

static void get(void *data, uint32_t length)
{
    XENSTORE_RING_IDX cons = ring->rsp_cons;
    uint32_t count;
    char *to = data;

    for (;;) {
        count = READ_ONCE(event_count[store_port]);
        if (READ_ONCE(ring->rsp_prod) - cons >= length)
            break;
        wait_event(store_port, count);
    }
    barrier(); /* The index before the bytes that it announces. */
    for (uint32_t i = 0; i < length; i++)
        to[i] = ring->rsp[MASK_XENSTORE_IDX(cons + i)];
    barrier();
    ring->rsp_cons = cons + length;
}

/* One request; the length of its reply, which is in *reply with a NUL. */
static uint32_t request(uint32_t type, uint32_t tx, const char *body,
                        uint32_t length, char reply[128])
{
    struct xsd_sockmsg message = {
        .type = type,
        .req_id = ++last_req_id,
        .tx_id = tx,
        .len = length,
    };

    put(&message, sizeof(message));
    put(body, length);
    evtchn_send(store_port);
    get(&message, sizeof(message));
    if (message.req_id != last_req_id || message.len >= 128)
        panic("xenstore: not the reply");
    get(reply, message.len);
    reply[message.len] = 0;
    if (message.type != type) {
        print("xenstore: request %u: %s\n", type, reply);
        panic("xenstore refuses");
    }
    return message.len;
}

/* A string literal as a request's body, its last NUL with it or without. */
#define STRINGS(text) text, sizeof(text)
#define BYTES(text) text, sizeof(text) - 1

static char answer[128];

static uint32_t begin(void)
{
    uint32_t tx = 0;

    request(XS_TRANSACTION_START, 0, STRINGS(""), answer);
    for (const char *digit = answer; *digit; digit++)
        tx = tx * 10 + (uint32_t)(*digit - '0');
    return tx;
}

static unsigned int read_key(void)
{
    request(XS_READ, 0, STRINGS("data/key"), answer);
    return 1;
}

static unsigned int write_key(void)
{
    request(XS_WRITE, 0, BYTES("data/key\0value"), answer);
    return 1;
}

static unsigned int write_rm(void)
{
    request(XS_WRITE, 0, BYTES("data/other\0value"), answer);
    request(XS_RM, 0, STRINGS("data/other"), answer);
    return 2;
}

static unsigned int directory(void)
{
    request(XS_DIRECTORY, 0, STRINGS("data"), answer);
    return 1;
}

static unsigned int get_domain_path(void)
{
    request(XS_GET_DOMAIN_PATH, 0, STRINGS("1"), answer);
    return 1;
}

static unsigned int transaction_empty(void)
{
    request(XS_TRANSACTION_END, begin(), STRINGS("T"), answer);
    return 2;
}

static unsigned int transaction_rdwr(void)
{
    uint32_t tx = begin();

    request(XS_READ, tx, STRINGS("data/key"), answer);
    request(XS_WRITE, tx, BYTES("data/key\0value"), answer);
    request(XS_TRANSACTION_END, tx, STRINGS("T"), answer);
    return 4;
}

/* Named as bench/xenstore_client.c names them; each returns its requests. */
static const struct {
    const char *word;
    unsigned int (*run)(void);
} operations[] = {
    {"store=read", read_key},
    {"store=write", write_key},
    {"store=write-rm", write_rm},
    {"store=directory", directory},
    {"store=get-domain-path", get_domain_path},
    {"store=transaction-empty", transaction_empty},
    {"store=transaction-rdwr", transaction_rdwr},
};

static void measure(unsigned int (*run)(void))
{
    uint64_t began, end, n = 0;

    ring = va_of_mfn(start_info->store_mfn);
    store_port = start_info->store_evtchn;
    evtchn_unmask(store_port);
    write_key();
    for (int i = 0; i < 50; i++)
        run();
    began = system_time_ns();
    do {
        n += run();
        end = system_time_ns();
    } while (end - began < DURATION_NS);
    print("requests %lu ns %lu\n", n, end - began);
}

void guest_main(void)
{
    bool is_done = false;

    events_init();
    events_enable();
    if (cmdline_has("echo"))
        echo();
    for (unsigned int i = 0; i < ARRAY_SIZE(operations); i++) {
        if (!cmdline_has(operations[i].word))
            continue;
        measure(operations[i].run);
        is_done = true;
    }
    check(is_done, "something was asked for", "nothing was");
}
