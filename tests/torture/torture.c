/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts share, and their order. */
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

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

int main(int argc, char **argv)
{
    self = argv[0][0] == '/' ? argv[0] : "/bin/torture";
    if (argc == 3 && !strcmp(argv[1], "exit"))
        return atoi(argv[2]);
    if (argc == 2 && !strcmp(argv[1], "processor")) {
        processor();
        return 0;
    }
    if (argc == 2 && !strcmp(argv[1], "ports")) {
        ports();
        return 0;
    }
    if (argc == 2 && !strcmp(argv[1], "armed")) {
        armed();
        return 0;
    }
    printf("torture: begin\n");
    fork_storm();
    fork_tree(5);
    exec_storm();
    pipes();
    signals();
    faults();
    deaths();
    processor();
    timer_signals();
    avx();
    bases();
    flags();
    map_storm();
    copy_on_write();
    result("stack growth", grow(500));
    into_kernel();
    freed_tables();
    threads();
    single_steps();
    entries();
    asked();
    printf("torture: end\n");
    return 0;
}
