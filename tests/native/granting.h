/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A made-up domain that grants its pages: what libs/ finds of one. */
#ifndef TESTS_NATIVE_GRANTING_H
#define TESTS_NATIVE_GRANTING_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xen/grant_table.h>

#include "abi/layout.h"
#include "libs/client/client.h"

#define DOMID 5
#define NR_FRAMES 4096 /* 16 MiB */
#define FRAME(n) (2048 + (n))

static grant_entry_v1_t *entries;
static char *memory;

/* The file of domain 5: page n of the guest is full of 'a' + n. */
static void make_domain(void)
{
    char path[256];
    int fd;

    if (evtchnd_runtime_path(path, sizeof(path), "vmcore.5"))
        exit(1);
    unlink(path);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || ftruncate(fd, NR_FRAMES * 4096L))
        exit(1);
    memory = mmap(NULL, NR_FRAMES * 4096L, PROT_READ | PROT_WRITE, MAP_SHARED,
                  fd, 0);
    close(fd);
    entries = (void *)(memory + GRANT_FRAMES_GPA);
    for (int n = 0; n < 16; n++)
        memset(memory + FRAME(n) * 4096L, 'a' + n, 4096);
}

static void end_domain(void)
{
    munmap(memory, NR_FRAMES * 4096L);
}

static void grant(uint32_t ref, uint16_t flags, domid_t domid, uint32_t frame)
{
    entries[ref] = (grant_entry_v1_t){flags, domid, frame};
}

#endif
