/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/domain.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/layout.h"

#define FIRST_FRAME 2048

void must(bool is_true, const char *what)
{
    if (!is_true) {
        perror(what);
        exit(1);
    }
}

void domain_open(uint32_t domid, char **memory, grant_entry_v1_t **grants,
                 struct evtchnd_client *client)
{
    struct evtchnd_answer hello;
    char name[32], path[256];
    int fd;

    snprintf(name, sizeof(name), "vmcore.%u", domid);
    must(!evtchnd_runtime_path(path, sizeof(path), name), "path");
    fd = open(path, O_RDWR | O_CLOEXEC);
    must(fd >= 0, path);
    *memory = mmap(NULL, (size_t)NR_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
                   MAP_SHARED, fd, (off_t)FIRST_FRAME * PAGE_BYTES);
    *grants = mmap(NULL, GRANT_FRAMES_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                   fd, GRANT_FRAMES_GPA);
    must(*memory != MAP_FAILED && *grants != MAP_FAILED, "mmap");
    close(fd);
    for (uint32_t i = 0; i < NR_PAGES; i++)
        (*grants)[FIRST_REF + i] =
            (grant_entry_v1_t){GTF_permit_access, 0, FIRST_FRAME + i};
    must(!evtchnd_connect(client, true, -1, -1, &hello), "evtchnd");
    must(hello.reply.status == EVTCHND_ROLE_DOMAIN, "not a domain");
    evtchnd_discard(&hello);
}
