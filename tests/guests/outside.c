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
#include "tests/guests/lib/xenstore.h"

const char guest_name[] = "outside";

#define DURATION_NS 500000000UL

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

/* One request, which is granted; *reply is its answer, with a NUL. */
static void request(uint32_t type, uint32_t tx, const char *body,
                    uint32_t length, char reply[STORE_REPLY])
{
    if (store_call(type, tx, body, length, reply) != type) {
        print("xenstore: request %u: %s\n", type, reply);
        panic("xenstore refuses");
    }
}

static char answer[STORE_REPLY];

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

    store_init();
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
