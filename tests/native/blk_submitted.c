/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the block engine gives to io_submit(2), seen and held. */
#define _GNU_SOURCE
#include "tests/native/blk_submitted.h"

#include <linux/aio_abi.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

char fake_submitted[64];
bool fake_holds_syncs;
static int held = -1;

/* Whose libxengnttab it is; see memory.c. Nothing calls it here. */
#ifndef WITH_LIBRARIES_OF_XEN
int xenner_gnttab_map_batch(void);
int xenner_gnttab_map_batch(void)
{
    return -1;
}
#endif

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/* It becomes something that ends when the test says so. */
static void hold(struct iocb *iocb)
{
    held = eventfd(0, EFD_CLOEXEC);
    iocb->aio_lio_opcode = IOCB_CMD_POLL;
    iocb->aio_fildes = (uint32_t)held;
    iocb->aio_buf = POLLIN;
}

static void note(struct iocb *iocb)
{
    size_t length = strlen(fake_submitted);
    bool is_sync = iocb->aio_lio_opcode == IOCB_CMD_FDSYNC;
    bool is_read = iocb->aio_lio_opcode == IOCB_CMD_PREAD ||
                   iocb->aio_lio_opcode == IOCB_CMD_PREADV;

    if (length + 1 < sizeof(fake_submitted))
        fake_submitted[length] = is_sync ? 's' : is_read ? 'r' : 'w';
    if (is_sync && fake_holds_syncs)
        hold(iocb);
}

void fake_let_sync(void)
{
    eventfd_write(held, 1);
}

/* The engine's way to io_submit(2); see test_blk.py. */
long __wrap_syscall(long number, ...)
{
    long argument[5];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 5; i++)
        argument[i] = va_arg(list, long);
    va_end(list);
    for (long i = 0; number == SYS_io_submit && i < argument[1]; i++)
        note(((struct iocb **)argument[2])[i]);
    return __real_syscall(number, argument[0], argument[1], argument[2],
                          argument[3], argument[4]);
}
