/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What Python cannot do with memory that a guest writes as well. */
#ifndef XENNER_ATOMIC_H
#define XENNER_ATOMIC_H

#ifdef ABI_NO_INCLUDES
/* For cffi, which reads declarations alone. */
void memory_barrier(void);
void notify_guest(void *pending, uint32_t port, int event_fd);
#else

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "abi/emu.h"

/* *word |= bits, in one step that others see as one, and before what follows.
 * word is aligned to its size. */
static inline void atomic_or_u64(void *word, uint64_t bits)
{
    __atomic_fetch_or((uint64_t *)word, bits, __ATOMIC_SEQ_CST);
}

/* What we wrote is seen before we read what follows. */
static inline void memory_barrier(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/*
 * Make a port of a guest pending: its bit before its word's bit, then the
 * interrupt. A descriptor that takes no more has unread ones enough. port is
 * below EMU_NR_EVTCHN.
 */
static inline void notify_guest(void *pending, uint32_t port, int event_fd)
{
    struct emu_pending *to = pending;
    const uint64_t one = 1;

    atomic_or_u64(&to->bits[port / 64], one << port % 64);
    atomic_or_u64(&to->selector, one << port / 64);
    while (write(event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

#endif
#endif
