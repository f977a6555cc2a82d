/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What Python cannot do with memory that a guest writes as well. */
#ifndef XENNER_ATOMIC_H
#define XENNER_ATOMIC_H

#include <stdint.h>

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

#endif
