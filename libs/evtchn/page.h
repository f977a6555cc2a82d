/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pages that hold pending bits: a handle's own, and those of its peers.
 * What stands in a page may change at any moment; it decides nothing but
 * which ports are said to be pending.
 */
#ifndef LIBS_EVTCHN_PAGE_H
#define LIBS_EVTCHN_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/emu.h"
#include "abi/wire.h"

#define PAGE_WORD(port) ((port) / 64)
#define PAGE_BIT(port) (UINT64_C(1) << (port) % 64)

static inline bool page_set(uint64_t *word, uint64_t bit)
{
    return __atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST) & bit;
}

static inline void page_clear(uint64_t *word, uint64_t bit)
{
    __atomic_fetch_and(word, ~bit, __ATOMIC_SEQ_CST);
}

static inline bool page_test(const uint64_t *word, uint64_t bit)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST) & bit;
}

/*
 * Set a port's bit in a handle's page. Returns whether its doorbell is to be
 * rung: not if the bit is there already, for who set it rings, and not if the
 * port is masked, for to unmask it is to look again. A forced set is rung
 * whatever was there: its setter may have died between the two.
 */
static inline bool host_page_set(struct evtchnd_page *page, uint32_t port,
                                 bool forced)
{
    uint32_t word = PAGE_WORD(port);

    if (page_set(&page->pending[word], PAGE_BIT(port)) && !forced)
        return false;
    if (page_test(&page->mask[word], PAGE_BIT(port)))
        return false;
    page_set(&page->selector[PAGE_WORD(word)], PAGE_BIT(word));
    return true;
}

/*
 * Set a port's bit in a guest's page: the bit before its word's bit in
 * selector, and both before the irqfd, because emu takes them the other way.
 */
static inline void guest_page_set(struct emu_pending *page, uint32_t port)
{
    page_set(&page->bits[PAGE_WORD(port)], PAGE_BIT(port));
    page_set(&page->selector, PAGE_BIT(PAGE_WORD(port)));
}

#endif
