/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Says the wall clock's time every five seconds, for bench/clock.py. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    for (;;) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        printf("CLOCK-%lld.%09ld-\n", (long long)now.tv_sec, now.tv_nsec);
        fflush(stdout);
        sleep(5);
    }
}
