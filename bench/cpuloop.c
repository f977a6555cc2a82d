/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A CPU-bound loop between two lines; whoever reads them has the clock. */
#include <inttypes.h>
#include <stdio.h>

#define LOOPS UINT64_C(800000000) /* some 2 s */

int main(void)
{
    uint64_t x = 88172645463325252;

    printf("LOOP-BEGIN %" PRIu64 "\n", LOOPS);
    fflush(stdout);
    for (uint64_t i = 0; i < LOOPS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    /* The result is printed so that the loop has to be run. */
    printf("LOOP-END %" PRIx64 "\n", x);
    return 0;
}
