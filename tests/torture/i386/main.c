/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts share, and their order. */
#include "i386.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

int main(int argc, char **argv)
{
    self = argv[0][0] == '/' ? argv[0] : "/bin/torture32";
    if (argc == 3 && !strcmp(argv[1], "exit"))
        return atoi(argv[2]);
    printf("torture: begin\n");
    fork_storm();
    fork_tree(4);
    exec_storm();
    pipes();
    ways_in();
    faults32();
    deaths32();
    returns();
    floats();
    segments();
    widths();
    traced();
    copy_on_write();
    into_kernel();
    threads();
    printf("torture: end\n");
    return 0;
}
