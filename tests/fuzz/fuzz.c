/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rounds of children, each of one part with a seed of its own:
 *
 *     fuzz seed=N (rounds=N | seconds=N) [only=PART] [jobs=N] [at=ADDRESS]
 *     fuzz replay=PART:SEED
 *
 * at: an address that is worth it.
 *
 * Each round's part and seed are printed before it begins: the last one on a
 * dead guest's console is the one to replay.
 */
#include "fuzz.h"

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A child that is not through by then is ended from outside. */
#define ROUND_LIMIT_S 60

static const struct part {
    const char *name;
    void (*run)(void);
    bool is_root;
} parts[] = {
    {"selectors", part_selectors, false},
    {"descriptors", part_descriptors, false},
    {"transfers", part_transfers, false},
    {"instructions", part_instructions, false},
    {"noise", part_noise, false},
    {"flags", part_flags, false},
    {"sigreturn", part_sigreturn, false},
    {"traced", part_traced, false},
    {"calls", part_calls, false},
    {"addresses", part_addresses, false},
    {"fpu", part_fpu, false},
    {"ports", part_ports, true},
    {"memory", part_memory, false},
};

static struct {
    uint64_t seed, rounds, seconds, jobs;
    const char *only;
} asked = {.seed = 1, .jobs = 1};

static void limit(int what, rlim_t most)
{
    struct rlimit l = {most, most};

    setrlimit(what, &l);
}

/* In the child. Each job has a user of its own, so that what it leaves can be
 * found and ended. */
static void run_part(const struct part *part, uint64_t with, uid_t user)
{
    setsid();
    prctl(PR_SET_DUMPABLE, 1);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 1 << 20);
    limit(RLIMIT_AS, 512UL << 20);
    limit(RLIMIT_CPU, ROUND_LIMIT_S);
    if (!part->is_root) {
        limit(RLIMIT_NPROC, 24);
        if (setgid(user) || setuid(user))
            _exit(98);
        prctl(PR_SET_DUMPABLE, 1);
    }
    for (int fd = 0; fd < 3 && !is_replay; fd++)
        close(fd);
    seed(with);
    places_init();
    attempts_init();
    part->run();
    _exit(0);
}

/* All that a job's user has left running. */
static void sweep(uid_t user)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (setuid(user) == 0)
            kill(-1, SIGKILL);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static void wait_limited(pid_t child)
{
    struct timespec limit_time = {ROUND_LIMIT_S, 0};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    while (waitpid(child, NULL, WNOHANG) == 0) {
        if (sigtimedwait(&set, NULL, &limit_time) < 0)
            kill(child, SIGKILL);
    }
}

static void one_round(const struct part *part, uint64_t with, uid_t user)
{
    pid_t child;

    printf("fuzz: %s:%" PRIu64 "\n", part->name, with);
    fflush(stdout);
    child = fork();
    if (child == 0)
        run_part(part, with, user);
    wait_limited(child);
    sweep(user);
}

static const struct part *find_part(const char *name)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(parts); i++) {
        if (!strcmp(parts[i].name, name))
            return &parts[i];
    }
    fprintf(stderr, "fuzz: no part %s\n", name);
    exit(2);
}

static uint64_t now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec;
}

/* One job's rounds; how many it were. */
static uint64_t rounds_of(uint64_t job)
{
    uint64_t end = now_s() + asked.seconds, done = 0;
    uid_t user = 10000 + (uid_t)job;

    while (asked.seconds ? now_s() < end : done < asked.rounds) {
        uint64_t with = asked.seed * 1000000 + job * 100000000000 + done;
        const struct part *part = asked.only ? find_part(asked.only)
                                             : &parts[with % ARRAY_SIZE(parts)];

        one_round(part, with, user);
        done++;
    }
    return done;
}

static void read_option(const char *text)
{
    const char *value = strchr(text, '=');

    if (!value) {
        fprintf(stderr, "fuzz: %s?\n", text);
        exit(2);
    }
    value++;
    if (!strncmp(text, "seed=", 5))
        asked.seed = strtoull(value, NULL, 0);
    else if (!strncmp(text, "rounds=", 7))
        asked.rounds = strtoull(value, NULL, 0);
    else if (!strncmp(text, "seconds=", 8))
        asked.seconds = strtoull(value, NULL, 0);
    else if (!strncmp(text, "jobs=", 5))
        asked.jobs = strtoull(value, NULL, 0);
    else if (!strncmp(text, "only=", 5))
        asked.only = value;
    else if (!strncmp(text, "at=", 3))
        known_address = strtoull(value, NULL, 0);
}

static int replay(char *what)
{
    char *colon = strchr(what, ':');

    if (!colon)
        return 2;
    *colon = 0;
    is_replay = true;
    one_round(find_part(what), strtoull(colon + 1, NULL, 0), 10000);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t done = 0;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "replay=", 7))
            read_option(argv[i]);
    }
    nr_attempts = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "replay=", 7))
            return replay(argv[i] + 7);
    }
    for (uint64_t job = 1; job < asked.jobs; job++) {
        if (fork() == 0) {
            rounds_of(job);
            _exit(0);
        }
    }
    done = rounds_of(0);
    while (wait(NULL) > 0)
        ;
    printf("fuzz: end, %" PRIu64 " rounds, %" PRIu64 " attempts\n", done,
           *nr_attempts);
    return 0;
}
