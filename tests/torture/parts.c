/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts share, in 64 bits and in 32. */
#include "torture.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

const char *self;

void result(const char *name, long value)
{
    printf("%-28s %ld\n", name, value);
    fflush(stdout);
}

uint32_t next(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

uint32_t checksum(const unsigned char *data, size_t bytes)
{
    uint32_t sum = 2166136261u;

    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ data[i]) * 16777619u;
    return sum;
}

int wait_status(pid_t pid)
{
    int status;

    if (waitpid(pid, &status, 0) != pid)
        return -1;
    return status;
}

long death(void (*how)(void))
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        how();
        _exit(0);
    }
    status = wait_status(pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}
