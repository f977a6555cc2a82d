/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory at places where something ends. */
#include "fuzz.h"

#include <string.h>
#include <sys/mman.h>

static uint8_t *high_code; /* two pages, nothing behind them */

static void *map(uint64_t at, size_t pages, bool executable)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    int protection = PROT_READ | PROT_WRITE | (executable ? PROT_EXEC : 0);

    return mmap((void *)at, pages * PAGE, protection,
                flags | (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);
}

void places_init(void)
{
    map(LOW_CODE, 2, true);
    map(LOW_STACK, 1, false);
    high_code = map(0, 3, true);
    munmap(high_code + 2 * PAGE, PAGE);
    if (map(LAST_PAGE, 1, true) == MAP_FAILED)
        return;
    /* What falls off the end goes on in no address at all. */
    memset((void *)LAST_PAGE, 0x90, PAGE);
}

uint8_t *put_code(const uint8_t *code, size_t bytes)
{
    uint8_t *at = one_in(3) ? (uint8_t *)LOW_CODE : high_code;

    if (one_in(16))
        at = (uint8_t *)LAST_PAGE - PAGE;
    switch (below(4)) {
    case 0: /* the last bytes before the hole */
        at += 2 * PAGE - bytes;
        break;
    case 1: /* cut by it */
        at += 2 * PAGE - 1 - below((unsigned int)bytes);
        break;
    case 2: /* over a page's end */
        at += PAGE - 1 - below((unsigned int)bytes);
        break;
    default:
        at += below((unsigned int)(PAGE - bytes));
    }
    for (size_t i = 0; i < bytes; i++) {
        uint64_t to = (uint64_t)at + i;

        if (to == LOW_NOTHING || to == (uint64_t)high_code + 2 * PAGE ||
            to == LAST_PAGE + PAGE || to < LOW_CODE)
            break;
        if (to >= LAST_PAGE - PAGE && to < LAST_PAGE)
            continue;
        at[i] = code[i];
    }
    return at;
}

uint64_t landing(bool low)
{
    /* int3; syscall; int 0x80; sysenter; ud2; and a forced prefix. */
    static const uint8_t ends[][8] = {
        {0xcc},
        {0x0f, 0x05, 0xcc},
        {0xcd, 0x80, 0xcc},
        {0x0f, 0x34, 0xcc},
        {0x0f, 0x0b},
        {0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2, 0xcc},
        {0xf4},
        {0xcd, 0x82, 0xcc},
        {0x9c, 0x0f, 0x05, 0xcc},
        {0x06, 0x1e, 0x16, 0x0f, 0xa0, 0xcc},
    };
    uint8_t code[16];
    size_t bytes = 8;

    if (one_in(3)) {
        bytes = make_instruction(code);
        code[bytes++] = 0xcc;
    } else {
        memcpy(code, ends[below(ARRAY_SIZE(ends))], bytes);
    }
    if (!low)
        return (uint64_t)put_code(code, bytes);
    memcpy((void *)LOW_CODE, code, bytes);
    return LOW_CODE;
}
