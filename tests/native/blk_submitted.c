/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the block engine gives to io_submit(2), seen and held. */
#define _GNU_SOURCE
#include "tests/native/blk_submitted.h"

#include <linux/aio_abi.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

char fake_submitted[64];
bool fake_holds_syncs;
void *fake_buffer;
int fake_submit_errno;
unsigned int fake_nr_unsubmitted, fake_nr_results_lost, fake_nr_threads_refused;
static int held = -1;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument);

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
    if (iocb->aio_lio_opcode == IOCB_CMD_PREADV ||
        iocb->aio_lio_opcode == IOCB_CMD_PWRITEV)
        fake_buffer = ((struct iovec *)(uintptr_t)iocb->aio_buf)->iov_base;
    if (is_sync && fake_holds_syncs)
        hold(iocb);
}

/* As the kernel sees it: a read into what cannot be written is EFAULT. */
bool fake_may_write(void *address)
{
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    bool may = read(fd, address, 1) == 1;

    close(fd);
    return may;
}

void fake_let_sync(void)
{
    eventfd_write(held, 1);
}

/* The last thing that has ended, of a file without O_DIRECT. */
static void lose_result(aio_context_t context)
{
    struct {
        uint32_t id, nr, head, tail, more[4];
        struct io_event event[];
    } *ring = (void *)context;

    fake_nr_results_lost--;
    ring->event[(ring->tail + ring->nr - 1) % ring->nr].res = -ENOMEM;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument)
{
    if (!fake_nr_threads_refused)
        return __real_pthread_create(thread, attributes, run, argument);
    fake_nr_threads_refused--;
    return EAGAIN;
}

/* The engine's way to io_submit(2); see test_blk.py. */
long __wrap_syscall(long number, ...)
{
    long argument[5], rc;
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 5; i++)
        argument[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_io_submit && fake_nr_unsubmitted) {
        fake_nr_unsubmitted--;
        errno = fake_submit_errno;
        return -1;
    }
    for (long i = 0; number == SYS_io_submit && i < argument[1]; i++)
        note(((struct iocb **)argument[2])[i]);
    rc = __real_syscall(number, argument[0], argument[1], argument[2],
                        argument[3], argument[4]);
    if (number == SYS_io_submit && rc > 0 && fake_nr_results_lost)
        lose_result((aio_context_t)argument[0]);
    return rc;
}
