/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of 32 bits, in their order. */
#include "i386.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
