/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * setrlimit(2) for oxenstored, which wants as many descriptors as the kernel
 * can give (fs.nr_open) and ends if it may not have them: that takes
 * CAP_SYS_RESOURCE, which a contained daemon has not. It gets what it may
 * have; all else is libc's. How it comes to be called stands in xsd.c.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int xenner_setrlimit(unsigned int resource, const struct rlimit *limit);

int xenner_setrlimit(unsigned int resource, const struct rlimit *limit)
{
    struct rlimit most;
    int rc = (int)syscall(SYS_prlimit64, 0, resource, limit, NULL);

    if (!rc || errno != EPERM || resource != RLIMIT_NOFILE ||
        syscall(SYS_prlimit64, 0, resource, NULL, &most))
        return rc;
    most.rlim_cur = most.rlim_max;
    return (int)syscall(SYS_prlimit64, 0, resource, &most, NULL);
}

__asm__(".symver xenner_setrlimit, setrlimit@GLIBC_2.2.5\n"
        ".globl xenner_setrlimit64\n"
        ".set xenner_setrlimit64, xenner_setrlimit\n"
        ".symver xenner_setrlimit64, setrlimit64@GLIBC_2.2.5");
