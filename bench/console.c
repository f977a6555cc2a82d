/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Short lines, a write(2) each, for bench/console.py: to /dev/null, to a pty
 * with a process that reads it, and to standard output between two marks.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double write_lines(int fd)
{
    double began_us = now_us();
    char line[32];

    for (int i = 0; i < LINES; i++) {
        int length = snprintf(line, sizeof(line), "line %d\n", i);

        for (int done = 0, n; done < length; done += n) {
            n = (int)write(fd, line + done, (size_t)(length - done));
            if (n <= 0)
                fail("write");
        }
    }
    return (now_us() - began_us) / LINES;
}

static double to_null(void)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    double took_us;

    if (fd < 0)
        fail("/dev/null");
    took_us = write_lines(fd);
    close(fd);
    return took_us;
}

/* Until whoever reads has it all. */
static double to_pty(void)
{
    int ours = posix_openpt(O_RDWR | O_NOCTTY), theirs;
    double began_us, took_us;
    pid_t reader;

    if (ours < 0 || grantpt(ours) || unlockpt(ours))
        fail("pty");
    theirs = open(ptsname(ours), O_RDWR | O_NOCTTY);
    if (theirs < 0)
        fail("pty's other end");
    reader = fork();
    if (reader < 0)
        fail("fork");
    if (reader == 0) {
        static char data[65536];

        close(theirs);
        while (read(ours, data, sizeof(data)) > 0)
            ;
        _exit(0);
    }
    close(ours);
    began_us = now_us();
    write_lines(theirs);
    close(theirs);
    waitpid(reader, NULL, 0);
    took_us = (now_us() - began_us) / LINES;
    return took_us;
}

int main(void)
{
    double null_us, pty_us;

    /* In a guest with nothing but this; elsewhere it is there. */
    if (access("/dev/pts/ptmx", F_OK)) {
        mkdir("/dev/pts", 0755);
        if (mount("devpts", "/dev/pts", "devpts", 0, NULL))
            fail("devpts");
    }
    null_us = to_null();
    pty_us = to_pty();
    printf("LINES-TIMES null %.3f pty %.3f\nLINES-BEGIN\n", null_us, pty_us);
    fflush(stdout);
    write_lines(STDOUT_FILENO);
    printf("LINES-END\n");
    fflush(stdout);
    sleep(1); /* Whoever reads this asks for the guest's counters. */
    return 0;
}
