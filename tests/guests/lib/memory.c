/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Start-of-day addresses, the page tables that map them, a pool of pages. */
#include "tests/guests/lib/guest.h"

const uint64_t *m2p = (const uint64_t *)0xffff800000000000;
uint64_t m2p_entries;
const bool __attribute__((weak)) asks_for_m2p = true;

#define POOL_PAGES 96
static uint8_t pool[POOL_PAGES][PAGE_SIZE] PAGE_ALIGNED;
static unsigned int pool_used;

void memory_init(void)
{
    struct xen_machphys_mapping map;

    if (!asks_for_m2p)
        return;
    if (CALL(memory_op, XENMEM_machphys_mapping, &map) == 0) {
        m2p = (const uint64_t *)map.v_start;
        m2p_entries = map.max_mfn + 1;
    }
}

uint64_t pfn_of(const void *va)
{
    return ((uint64_t)va - virt_base) / PAGE_SIZE;
}

uint64_t mfn_of(const void *va)
{
    return ((const uint64_t *)start_info->mfn_list)[pfn_of(va)];
}

uint64_t maddr_of(const void *va)
{
    return mfn_of(va) * PAGE_SIZE + (uint64_t)va % PAGE_SIZE;
}

void *va_of_mfn(uint64_t mfn)
{
    return (void *)(virt_base + m2p[mfn] * PAGE_SIZE);
}

uint64_t *pte_of(const void *va, int level)
{
    uint64_t *table = (uint64_t *)start_info->pt_base;

    for (int at = 4;; at--) {
        uint64_t *entry = &table[(uint64_t)va >> (12 + 9 * (at - 1)) & 511];

        if (at == level)
            return entry;
        if (!(*entry & PTE_P))
            return NULL;
        table = va_of_mfn((*entry & PTE_ADDR) / PAGE_SIZE);
    }
}

void *page_alloc(void)
{
    if (pool_used == POOL_PAGES)
        panic("page pool is empty");
    return pool[pool_used++];
}

int64_t page_protect(const void *va, bool writable)
{
    uint64_t pte = mfn_of(va) * PAGE_SIZE | PTE_P | PTE_A |
                   (writable ? PTE_RW | PTE_D : 0);

    return CALL(update_va_mapping, va, pte, UVMF_INVLPG);
}

int64_t mmuext(unsigned int cmd, uint64_t arg1, uint64_t arg2)
{
    struct mmuext_op op = {
        .cmd = cmd, .arg1.mfn = arg1, .arg2.nr_ents = (unsigned int)arg2};

    return CALL(mmuext_op, &op, 1, 0, DOMID_SELF);
}

int64_t pin(const void *table, unsigned int level)
{
    return mmuext(MMUEXT_PIN_L1_TABLE + level - 1, mfn_of(table), 0);
}

int64_t unpin(const void *table)
{
    return mmuext(MMUEXT_UNPIN_TABLE, mfn_of(table), 0);
}

int64_t mmu_write(const uint64_t *entry, uint64_t value, unsigned int type)
{
    mmu_update_t update = {.ptr = maddr_of(entry) | type, .val = value};

    return CALL(mmu_update, &update, 1, 0, DOMID_SELF);
}

void *memset(void *to, int c, size_t bytes)
{
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(c) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes)::"memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *x = a, *y = b;

    for (; bytes; bytes--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

bool starts_with(const char *s, const char *prefix)
{
    for (; *prefix; s++, prefix++)
        if (*s != *prefix)
            return false;
    return true;
}

bool streq(const char *a, const char *b)
{
    return starts_with(a, b) && strlen(a) == strlen(b);
}
