/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xenstore, as every guest finds it in start_info: what stands there, who may
 * do what, and that the guest hears of what changes.
 *
 * listen   wait for control/shutdown, as a kernel does, and do it
 * deaf     watch it, and then spin with events masked
 * again    reboot
 */
#include "tests/guests/lib/xenstore.h"

const char guest_name[] = "store";

static char answer[STORE_REPLY];

static void check_answer(const char *name, uint32_t type, const char *want)
{
    check(streq(answer, want), name, "type %u: \"%s\"", type, answer);
}

#define ASK(type, body) store_call(type, 0, body, answer)

static void nodes(void)
{
    char own[64] = "/local/domain/";
    uint32_t type = ASK(XS_READ, STRINGS("domid"));

    check(type == XS_READ && answer[0] >= '1' && answer[0] <= '9', "own number",
          "type %u: %s", type, answer);
    memcpy(own + 14, answer, strlen(answer) + 1);
    type = store_call(XS_GET_DOMAIN_PATH, 0, answer,
                      (uint32_t)strlen(answer) + 1, answer);
    check_answer("own path", type, own);
    type = ASK(XS_READ, STRINGS("name"));
    check(type == XS_READ && answer[0], "own name", "%s", answer);
    type = ASK(XS_READ, STRINGS("cpu/0/availability"));
    check_answer("cpu/0", type, "online");
    type = ASK(XS_READ, STRINGS("control/shutdown"));
    check(type == XS_READ && !answer[0], "nothing asked yet", "%s", answer);
    type = ASK(XS_READ, STRINGS("none"));
    check_answer("no such node", type, "ENOENT");
}

static void rights(void)
{
    uint32_t type = ASK(XS_WRITE, BYTES("data/key\0value"));

    check_answer("write below data", type, "OK");
    type = ASK(XS_READ, STRINGS("data/key"));
    check_answer("read it", type, "value");
    type = ASK(XS_WRITE, BYTES("name\0other"));
    check_answer("write what is read-only", type, "EACCES");
    type = ASK(XS_WRITE, BYTES("/local/domain/0/name\0other"));
    check_answer("write domain 0's", type, "EACCES");
    type = ASK(XS_INTRODUCE, STRINGS("7\0001\0001"));
    check_answer("what domain 0 alone may", type, "EACCES");
    type = ASK(99, STRINGS(""));
    check_answer("no such request", type, "ENOSYS");
}

static void transaction(void)
{
    uint32_t tx = 0, type;

    ASK(XS_TRANSACTION_START, STRINGS(""));
    for (const char *digit = answer; *digit; digit++)
        tx = tx * 10 + (uint32_t)(*digit - '0');
    check(tx, "transaction", "no number");
    store_call(XS_WRITE, tx, BYTES("data/key\0later"), answer);
    type = ASK(XS_READ, STRINGS("data/key"));
    check_answer("not seen outside", type, "value");
    type = store_call(XS_TRANSACTION_END, tx, STRINGS("T"), answer);
    check_answer("commit", type, "OK");
    type = ASK(XS_READ, STRINGS("data/key"));
    check_answer("seen then", type, "later");
}

static void watches(void)
{
    uint32_t type = ASK(XS_WATCH, STRINGS("data\0token"));

    check_answer("watch", type, "OK");
    store_wait_event();
    check(streq(store_event, "data"), "fires at once", "%s", store_event);
    ASK(XS_WRITE, BYTES("data/below\0x"));
    store_wait_event();
    check(streq(store_event, "data/below"), "fires below", "%s", store_event);
    check_eq("events", store_events, 2);
}

/* More than the ring has room for, round it several times. */
static void many_at_once(void)
{
    uint32_t good = 0;

    for (uint32_t round = 0; round < 10; round++) {
        for (uint32_t i = 0; i < 15; i++)
            store_send(XS_READ, 0, STRINGS("cpu/0/availability"));
        for (uint32_t i = 0; i < 15; i++) {
            store_receive(answer);
            good += streq(answer, "online");
        }
    }
    check_eq("many at once", good, 150);
}

static void listen(void)
{
    ASK(XS_WATCH, STRINGS("control/shutdown\0shutdown"));
    do {
        print("listening\n");
        store_wait_event();
        ASK(XS_READ, STRINGS("control/shutdown"));
    } while (!answer[0]);
    check_answer("asked", XS_READ, "poweroff");
    ASK(XS_WRITE, BYTES("control/shutdown\0"));
}

static void be_deaf(void)
{
    ASK(XS_WATCH, STRINGS("control/shutdown\0shutdown"));
    verdict();
    events_disable();
    for (;;)
        barrier();
}

void guest_main(void)
{
    check(start_info->store_mfn, "ring", "none");
    check(start_info->store_evtchn, "port", "none");
    events_init();
    events_enable();
    store_init();
    check(READ_ONCE(store_ring->server_features) &
              XENSTORE_SERVER_FEATURE_ERROR,
          "features", "%x", store_ring->server_features);
    check_eq("connected", READ_ONCE(store_ring->connection), 0);
    if (cmdline_has("deaf"))
        be_deaf();
    nodes();
    rights();
    transaction();
    watches();
    many_at_once();
    if (cmdline_has("listen"))
        listen();
    if (cmdline_has("again")) {
        verdict();
        shutdown(SHUTDOWN_reboot);
    }
}
