/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages that were page tables a moment ago. A hypervisor that remembers them
 * too long lets the kernel write through a mapping that is read-only: what a
 * child reads from a file would be seen by its parent.
 */
#include "torture.h"

#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GIB (1UL << 30)
#define REGION (32UL << 40)

static unsigned char *make_tables(void)
{
    unsigned char *region =
        mmap(NULL, REGION, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (region == MAP_FAILED)
        exit(1);
    for (unsigned long i = 0; i < 256; i++)
        region[i * GIB] = 1;
    for (unsigned long at = 0; at < REGION; at += 512 * GIB)
        region[at] = 1;
    return region;
}

static void read_into_all(unsigned char *data, int pages)
{
    static const unsigned char bytes[8] = "changed";
    int ends[2];

    if (pipe(ends))
        _exit(1);
    for (int page = 0; page < pages; page++) {
        if (write(ends[1], bytes, sizeof(bytes)) != sizeof(bytes) ||
            read(ends[0], &data[page * PAGE], sizeof(bytes)) != sizeof(bytes))
            _exit(1);
    }
    _exit(data[0] != 'c');
}

/* How many pages changed, at most 100; more: something failed. */
static int pages_changed(void)
{
    enum { PAGES = 2048 };
    unsigned char *data = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int changed = 0;
    pid_t pid;

    for (int page = 0; page < PAGES; page++)
        data[page * PAGE] = (unsigned char)page;
    pid = fork();
    if (pid == 0)
        read_into_all(data, PAGES);
    if (wait_status(pid))
        return 101;
    for (int page = 0; page < PAGES; page++)
        changed += data[page * PAGE] != (unsigned char)page;
    return changed < 100 ? changed : 100;
}

/*
 * The child has a copy of all tables, upper ones among them, and frees its own
 * while it lives; its new pages are what those were.
 */
void freed_tables(void)
{
    unsigned char *region = make_tables();
    pid_t pid = fork();

    if (pid == 0) {
        munmap(region, REGION);
        /* Linux frees tables behind a grace period of RCU. */
        for (int i = 0; i < 3; i++)
            syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
        _exit(pages_changed());
    }
    result("freed tables, changed", wait_status(pid) >> 8);
    munmap(region, REGION);
}
