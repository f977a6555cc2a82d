/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of xenstore that measures: one operation after the other over a
 * Unix socket, as libxenstore does it.
 *
 *     xenstore_client SOCKET CASE SECONDS
 *
 * Prints the requests answered in a second, on a line of its own.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

#define NR_KEYS 20
#define DEEP "/local/domain/0/backend/vbd/7/51712/bench"
#define FLAT "/tool/bench"
#define IN_FLIGHT 32

static int store;
static char reply[XENSTORE_PAYLOAD_MAX + 1];
static struct xsd_sockmsg header;

static void fail(const char *what)
{
    fprintf(stderr, "xenstore_client: %s\n", what);
    exit(1);
}

static void send_request(uint32_t type, uint32_t tx, const char *data,
                         size_t len)
{
    char buffer[sizeof(header) + XENSTORE_PAYLOAD_MAX];
    struct xsd_sockmsg msg = {.type = type, .tx_id = tx, .len = len};

    memcpy(buffer, &msg, sizeof(msg));
    memcpy(buffer + sizeof(msg), data, len);
    if (write(store, buffer, sizeof(msg) + len) != (ssize_t)(sizeof(msg) + len))
        fail("write");
}

static void read_all(void *to, size_t len)
{
    while (len) {
        ssize_t count = read(store, to, len);

        if (count <= 0)
            fail("read");
        to = (char *)to + count;
        len -= count;
    }
}

static void take_message(void)
{
    read_all(&header, sizeof(header));
    if (header.len > XENSTORE_PAYLOAD_MAX)
        fail("an overlong message");
    read_all(reply, header.len);
    reply[header.len] = 0;
    if (header.type == XS_ERROR)
        fail(reply);
}

static void request(uint32_t type, uint32_t tx, const char *data, size_t len)
{
    send_request(type, tx, data, len);
    do
        take_message();
    while (header.type == XS_WATCH_EVENT);
}

static void request_path(uint32_t type, uint32_t tx, const char *path)
{
    request(type, tx, path, strlen(path) + 1);
}

static void write_value(uint32_t tx, const char *path, const char *value)
{
    char data[256];
    int len = snprintf(data, sizeof(data), "%s%c%s", path, 0, value);

    request(XS_WRITE, tx, data, len);
}

static uint32_t start_transaction(void)
{
    request(XS_TRANSACTION_START, 0, "", 1);
    return strtoul(reply, NULL, 10);
}

static void end_transaction(uint32_t tx)
{
    request(XS_TRANSACTION_END, tx, "T", 2);
}

static const char *key(const char *above, unsigned int i)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/key%u", above, i % NR_KEYS);
    return path;
}

static void watch(const char *path, const char *token)
{
    char data[256];
    int len = snprintf(data, sizeof(data), "%s%c%s", path, 0, token);

    request(XS_WATCH, 0, data, len + 1);
    /* It fires once at once. */
    take_message();
}

/* Each case does its work once and returns how many requests that was. */

static unsigned int read_one(unsigned int i)
{
    (void)i;
    request_path(XS_READ, 0, FLAT "/key0");
    return 1;
}

static unsigned int read_deep(unsigned int i)
{
    request_path(XS_READ, 0, key(DEEP, i));
    return 1;
}

static unsigned int write_one(unsigned int i)
{
    (void)i;
    write_value(0, FLAT "/key0", "value");
    return 1;
}

static unsigned int write_deep(unsigned int i)
{
    write_value(0, key(DEEP, i), "value");
    return 1;
}

static unsigned int write_rm(unsigned int i)
{
    (void)i;
    write_value(0, FLAT "/new", "value");
    request_path(XS_RM, 0, FLAT "/new");
    return 2;
}

static unsigned int directory(unsigned int i)
{
    (void)i;
    request_path(XS_DIRECTORY, 0, FLAT);
    return 1;
}

static unsigned int get_domain_path(unsigned int i)
{
    (void)i;
    request_path(XS_GET_DOMAIN_PATH, 0, "7");
    return 1;
}

static unsigned int transaction_empty(unsigned int i)
{
    (void)i;
    end_transaction(start_transaction());
    return 2;
}

static unsigned int transaction_rdwr(unsigned int i)
{
    uint32_t tx = start_transaction();

    request_path(XS_READ, tx, key(DEEP, i));
    write_value(tx, key(DEEP, i), "value");
    end_transaction(tx);
    return 4;
}

static unsigned int transaction_10_writes(unsigned int i)
{
    uint32_t tx = start_transaction();
    unsigned int n;

    for (n = 0; n < 10; n++)
        write_value(tx, key(DEEP, i + n), "value");
    end_transaction(tx);
    return 12;
}

static unsigned int read_in_flight(unsigned int i)
{
    unsigned int n;

    (void)i;
    for (n = 0; n < IN_FLIGHT; n++)
        send_request(XS_READ, 0, FLAT "/key0", sizeof(FLAT "/key0"));
    for (n = 0; n < IN_FLIGHT; n++)
        take_message();
    return IN_FLIGHT;
}

static unsigned int write_watched(unsigned int i)
{
    static const char data[] = FLAT "/watched\0value";
    unsigned int n;

    (void)i;
    send_request(XS_WRITE, 0, data, sizeof(data) - 1);
    /* The event and the acknowledgement, in whichever order. */
    for (n = 0; n < 2; n++)
        take_message();
    return 1;
}

static void watch_one(void)
{
    watch(FLAT "/watched", "token");
}

static void watch_others(void)
{
    char path[64];
    unsigned int n;

    for (n = 0; n < 101; n++) {
        snprintf(path, sizeof(path), "/tool/other/%u", n);
        watch(path, "token");
    }
}

static const struct {
    const char *name;
    unsigned int (*run)(unsigned int i);
    void (*prepare)(void);
} cases[] = {
    {"read", read_one, NULL},
    {"read-deep", read_deep, NULL},
    {"write", write_one, NULL},
    {"write-deep", write_deep, NULL},
    {"write-rm", write_rm, NULL},
    {"directory", directory, NULL},
    {"get-domain-path", get_domain_path, NULL},
    {"transaction-empty", transaction_empty, NULL},
    {"transaction-rdwr", transaction_rdwr, NULL},
    {"transaction-10-writes", transaction_10_writes, NULL},
    {"read-32-in-flight", read_in_flight, NULL},
    {"write-watched", write_watched, watch_one},
    {"write-101-watches", write_one, watch_others},
};

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void measure(size_t which, double seconds)
{
    double began_s, ended_s;
    unsigned long requests = 0;
    unsigned int i;

    if (cases[which].prepare)
        cases[which].prepare();
    for (i = 0; i < 100; i++)
        cases[which].run(i);
    began_s = ended_s = now_s();
    for (i = 0; ended_s - began_s < seconds; i++) {
        requests += cases[which].run(i);
        if (i % 8 == 0)
            ended_s = now_s();
    }
    printf("%.1f\n", requests / (now_s() - began_s));
}

static void connect_store(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        fail("path of socket too long");
    strcpy(address.sun_path, path);
    store = socket(AF_UNIX, SOCK_STREAM, 0);
    if (store < 0 ||
        connect(store, (struct sockaddr *)&address, sizeof(address)))
        fail("connect");
}

int main(int argc, char **argv)
{
    size_t which;
    unsigned int i;

    if (argc != 4)
        fail("usage: xenstore_client SOCKET CASE SECONDS");
    connect_store(argv[1]);
    for (i = 0; i < NR_KEYS; i++) {
        write_value(0, key(FLAT, i), "value");
        write_value(0, key(DEEP, i), "value");
    }
    for (which = 0; which < sizeof(cases) / sizeof(cases[0]); which++)
        if (!strcmp(cases[which].name, argv[2])) {
            measure(which, atof(argv[3]));
            return 0;
        }
    fail("no such case");
}
