/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts, in their order. */
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
