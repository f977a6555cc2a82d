/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two processes that wake each other: through two eventfds alone, or through
 * libxenevtchn. Prints microseconds for a round trip.
 *
 *     evtchn_roundtrip eventfd|library ROUNDS
 *
 * The sequence of the second is that of Xen's own users: pending, unmask,
 * notify. An event may be told once too often, so what happened is counted in
 * shared memory, as with a ring, and by both alike.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

struct side {
    int in, out; /* eventfds */
    xenevtchn_handle *xce;
    int port;
    uint32_t seen, *told, *heard; /* counters of rounds */
};

static void tell(const struct side *side)
{
    uint64_t one = 1;

    __atomic_add_fetch(side->told, 1, __ATOMIC_SEQ_CST);
    if (side->xce)
        must(!xenevtchn_notify(side->xce, (evtchn_port_t)side->port), "notify");
    else
        must(write(side->out, &one, sizeof(one)) == sizeof(one), "write");
}

static void wait_event(const struct side *side)
{
    uint64_t count;
    int port;

    if (!side->xce) {
        must(read(side->in, &count, sizeof(count)) == sizeof(count), "read");
        return;
    }
    port = xenevtchn_pending(side->xce);
    must(port == side->port, "pending");
    must(!xenevtchn_unmask(side->xce, (evtchn_port_t)port), "unmask");
}

static void wait_told(struct side *side)
{
    side->seen++;
    do {
        wait_event(side);
    } while (__atomic_load_n(side->heard, __ATOMIC_SEQ_CST) != side->seen);
}

static void open_side(struct side *side)
{
    side->xce = xenevtchn_open(NULL, 0);
    must(side->xce != NULL, "xenevtchn_open");
}

/* The end that answers; how many times it does is the other's business. */
static void answer(struct side *side, int from, long rounds)
{
    uint32_t remote;

    if (from >= 0) {
        open_side(side);
        must(read(from, &remote, sizeof(remote)) == sizeof(remote), "port");
        side->port = xenevtchn_bind_interdomain(side->xce, 0, remote);
        must(side->port > 0, "bind_interdomain");
        tell(side);
    }
    while (rounds--) {
        wait_told(side);
        tell(side);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    int is_library = argc > 1 && !strcmp(argv[1], "library"), pipes[2];
    long rounds = argc > 2 ? atol(argv[2]) : 20000, warm = rounds / 10 + 1;
    struct side ours = {0}, theirs = {0};
    double began_us;
    pid_t child;
    int status;

    ours.in = theirs.out = eventfd(0, 0);
    ours.out = theirs.in = eventfd(0, 0);
    must(ours.in >= 0 && ours.out >= 0, "eventfd");
    must(!pipe(pipes), "pipe");
    ours.told = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(ours.told != MAP_FAILED, "mmap");
    theirs.heard = ours.told;
    theirs.told = ours.heard = ours.told + 16; /* a cache line of its own */
    child = fork();
    must(child >= 0, "fork");
    if (!child)
        answer(&theirs, is_library ? pipes[0] : -1, rounds + warm);
    if (is_library) {
        uint32_t port;

        open_side(&ours);
        ours.port = xenevtchn_bind_unbound_port(ours.xce, 0);
        must(ours.port > 0, "bind_unbound_port");
        port = (uint32_t)ours.port;
        must(write(pipes[1], &port, sizeof(port)) == sizeof(port), "port");
        wait_told(&ours);
    }
    for (long i = 0; i < warm; i++) {
        tell(&ours);
        wait_told(&ours);
    }
    began_us = now_us();
    for (long i = 0; i < rounds; i++) {
        tell(&ours);
        wait_told(&ours);
    }
    printf("%.4f\n", (now_us() - began_us) / (double)rounds);
    must(waitpid(child, &status, 0) == child, "waitpid");
    return status != 0;
}
