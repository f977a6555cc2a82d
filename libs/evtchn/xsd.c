/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /proc/xen/xsd_port and /proc/xen/xsd_kva for the Xen store daemons: Xen's
 * kernel has them, ours has no /proc/xen, and xenstored knows no other way.
 *
 * open(2) of just these two names is answered here. The functions stand in
 * the version node of libc's own, and xenstored and oxenstored name this
 * library before libc, so theirs is this one; nobody else's is disturbed.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/wire.h"

int xenner_open(const char *path, int flags, ...);

/* A file that exists only as this descriptor. */
static int made_file(const char *name, const char *text, size_t bytes,
                     int flags)
{
    int fd = memfd_create(name, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);

    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)bytes) ||
        pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text)) {
        close(fd);
        return -1;
    }
    return fd;
}

int xenner_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    char number[16];
    va_list list;

    if (path && !strcmp(path, "/proc/xen/xsd_port")) {
        snprintf(number, sizeof(number), "%d", EVTCHND_XENSTORE_PORT);
        return made_file("xsd_port", number, strlen(number), flags);
    }
    /* The page that a dom0 kernel would have its ring in; here nobody has. */
    if (path && !strcmp(path, "/proc/xen/xsd_kva"))
        return made_file("xsd_kva", "", 4096, flags);
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {
        va_start(list, flags);
        mode = va_arg(list, mode_t);
        va_end(list);
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

__asm__(".symver xenner_open, open@GLIBC_2.2.5\n"
        ".globl xenner_open64\n"
        ".set xenner_open64, xenner_open\n"
        ".symver xenner_open64, open64@GLIBC_2.2.5");
