/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mappings, copy on write, and the kernel writing for us. */
#include "torture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void map_storm(void)
{
    enum { AREAS = 24, AREA_PAGES = 32 };
    unsigned char *area[AREAS] = {0};
    uint32_t state = 42, sum = 0;

    for (int turn = 0; turn < 1500; turn++) {
        unsigned int i = next(&state) % AREAS;

        if (!area[i]) {
            area[i] = mmap(NULL, AREA_PAGES * PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            continue;
        }
        switch (next(&state) % 5) {
        case 0:
            munmap(area[i], AREA_PAGES * PAGE);
            area[i] = NULL;
            break;
        case 1:
            mprotect(area[i], AREA_PAGES * PAGE, PROT_READ);
            sum += area[i][next(&state) % (AREA_PAGES * PAGE)];
            mprotect(area[i], AREA_PAGES * PAGE, PROT_READ | PROT_WRITE);
            break;
        case 2: {
            unsigned char *moved =
                mremap(area[i], AREA_PAGES * PAGE, 2 * AREA_PAGES * PAGE,
                       MREMAP_MAYMOVE);

            area[i] = mremap(moved, 2 * AREA_PAGES * PAGE, AREA_PAGES * PAGE,
                             MREMAP_MAYMOVE);
            break;
        }
        case 3:
            madvise(area[i] + PAGE, 4 * PAGE, MADV_DONTNEED);
            break;
        default:
            for (int page = 0; page < AREA_PAGES; page++)
                area[i][page * PAGE + next(&state) % PAGE] ^=
                    (unsigned char)next(&state);
        }
    }
    for (int i = 0; i < AREAS; i++) {
        if (area[i])
            sum ^= checksum(area[i], AREA_PAGES * PAGE);
        if (area[i])
            munmap(area[i], AREA_PAGES * PAGE);
    }
    result("mapping storm", sum);
}

void copy_on_write(void)
{
    enum { BYTES = 256 * PAGE };
    unsigned char *data = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long bad = 0;

    for (int i = 0; i < BYTES; i++)
        data[i] = (unsigned char)(i / PAGE);
    for (int child = 0; child < 8; child++) {
        pid_t pid = fork();

        if (pid == 0) {
            for (int page = child; page < 256; page += 3)
                data[page * PAGE + child] ^= 0x55;
            _exit(data[child * PAGE + child] != (child ^ 0x55));
        }
        /* The parent writes at the same time. */
        for (int page = 0; page < 256; page += 5)
            data[page * PAGE + 100 + child] = (unsigned char)child;
        bad += wait_status(pid) != 0;
    }
    result("copy on write, bad", bad);
    result("copy on write, sum", checksum(data, BYTES));
    munmap(data, BYTES);
}

long grow(long level)
{
    volatile char room[8192];

    room[0] = (char)level;
    return level == 0 ? room[0] : grow(level - 1) + 1;
}

void into_kernel(void)
{
    /* The kernel writes to pages that are not there yet. */
    char *fresh = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *closed =
        mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int ends[2];

    if (pipe(ends) || write(ends[1], "0123456789abcdef", 16) != 16)
        exit(1);
    result("read into fresh page", read(ends[0], fresh + PAGE - 4, 8));
    result("fresh page", memcmp(fresh + PAGE - 4, "01234567", 8));
    result("read into read-only", read(ends[0], closed, 8));
    result("write from nowhere", syscall(SYS_write, ends[1], 8, 8));
}
