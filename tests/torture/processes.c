/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fork, exec, pipes, threads. */
#include "torture.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void fork_storm(void)
{
    long sum = 0;

    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(i);
        sum += WEXITSTATUS(wait_status(pid));
    }
    result("fork exit statuses", sum);
}

void fork_tree(int depth)
{
    pid_t children[2];
    int bad = 0;

    if (depth == 0)
        return;
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            fork_tree(depth - 1);
            _exit(depth);
        }
    }
    for (int i = 0; i < 2; i++)
        bad |= WEXITSTATUS(wait_status(children[i])) != depth;
    if (bad)
        _exit(255);
}

void exec_storm(void)
{
    long sum = 0;

    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            char number[16];

            snprintf(number, sizeof(number), "%d", i);
            execl(self, self, "exit", number, (char *)NULL);
            _exit(99);
        }
        sum += WEXITSTATUS(wait_status(pid));
    }
    result("exec exit statuses", sum);
}

void pipes(void)
{
    int there[2], back[2];
    long sum = 0;
    pid_t pid;

    if (pipe(there) || pipe(back))
        exit(1);
    pid = fork();
    if (pid == 0) {
        long value;

        while (read(there[0], &value, sizeof(value)) == sizeof(value) &&
               value >= 0) {
            value = value * 3 + 1;
            if (write(back[1], &value, sizeof(value)) < 0)
                break;
        }
        _exit(0);
    }
    for (long i = 0; i < 500; i++) {
        long value = i;

        if (write(there[1], &value, sizeof(value)) < 0 ||
            read(back[0], &value, sizeof(value)) < 0)
            exit(1);
        sum += value;
    }
    sum += write(there[1], &(long){-1}, sizeof(long));
    wait_status(pid);
    result("pipe round trips", sum);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long shared_count;
static __thread long own_count;

static void *thread(void *argument)
{
    (void)argument;
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&lock);
        shared_count++;
        pthread_mutex_unlock(&lock);
        own_count++;
        if (i % 64 == 0)
            sched_yield();
    }
    return (void *)own_count;
}

void threads(void)
{
    pthread_t all[8];
    long own = 0;

    for (int i = 0; i < 8; i++)
        pthread_create(&all[i], NULL, thread, NULL);
    for (int i = 0; i < 8; i++) {
        void *value;

        pthread_join(all[i], &value);
        own += (long)value;
    }
    result("threads, shared", shared_count);
    result("threads, own", own);
}
