/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/blk/frontend.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/layout.h"

#define PAGE_BYTES 4096
#define FIRST_FRAME 2048

void must(bool is_true, const char *what)
{
    if (!is_true) {
        perror(what);
        exit(1);
    }
}

void frontend_new(struct frontend *f, uint32_t domid)
{
    struct evtchnd_answer hello;
    char name[32], path[256];
    int fd;

    snprintf(name, sizeof(name), "vmcore.%u", domid);
    must(!evtchnd_runtime_path(path, sizeof(path), name), "path");
    fd = open(path, O_RDWR | O_CLOEXEC);
    must(fd >= 0, path);
    f->memory =
        mmap(NULL, (size_t)NR_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
             MAP_SHARED, fd, (off_t)FIRST_FRAME * PAGE_BYTES);
    f->grants = mmap(NULL, GRANT_FRAMES_BYTES, PROT_READ | PROT_WRITE,
                     MAP_SHARED, fd, GRANT_FRAMES_GPA);
    must(f->memory != MAP_FAILED && f->grants != MAP_FAILED, "mmap");
    close(fd);
    for (uint32_t i = 0; i < NR_PAGES; i++)
        f->grants[FIRST_REF + i] =
            (grant_entry_v1_t){GTF_permit_access, 0, FIRST_FRAME + i};
    must(!evtchnd_connect(&f->client, true, -1, -1, &hello), "evtchnd");
    must(hello.reply.status == EVTCHND_ROLE_DOMAIN, "not a domain");
    evtchnd_discard(&hello);
}

void frontend_open(struct frontend *f, uint32_t nr_pages, bool is_32)
{
    struct evtchnd_request request = {
        .type = EVTCHND_ALLOC_UNBOUND,
        .dom = EVTCHND_SELF,
        .remote_dom = 0,
    };
    struct evtchnd_answer answer;
    uint32_t fit;

    must(!evtchnd_call(&f->client, &request, -1, -1, &answer), "channel");
    f->in = answer.in;
    f->out = answer.out;
    f->port = answer.reply.port;
    f->is_32 = is_32;
    f->slot_bytes = is_32 ? 108 : sizeof(struct blkif_request);
    fit = (nr_pages * PAGE_BYTES - 64) / f->slot_bytes;
    for (f->nr_slots = 1; f->nr_slots * 2 <= fit;)
        f->nr_slots *= 2;
    f->sring = (void *)page_at(f, ring_page(f));
    memset(f->sring, 0, nr_pages * PAGE_BYTES);
    SHARED_RING_INIT(f->sring);
    f->req_prod = f->rsp_cons = 0;
}

uint32_t ring_page(const struct frontend *f)
{
    return f->number ? NR_PAGES - f->number * 16 : RING_PAGE;
}

char *page_at(struct frontend *f, uint32_t page)
{
    return f->memory + (size_t)page * PAGE_BYTES;
}

static char *slot_at(struct frontend *f, uint32_t index)
{
    return (char *)f->sring + offsetof(struct blkif_sring, ring) +
           (size_t)(index & (f->nr_slots - 1)) * f->slot_bytes;
}

void put(struct frontend *f, const struct blkif_request *request)
{
    const char *from = (const char *)request;
    char *slot = slot_at(f, f->req_prod++);

    if (!f->is_32) {
        memcpy(slot, from, f->slot_bytes);
        return;
    }
    /* i386 has no hole between handle and id. */
    memcpy(slot, from, 4);
    memcpy(slot + 4, from + 8, f->slot_bytes - 4);
}

void put_io(struct frontend *f, uint8_t op, uint64_t id, uint64_t sector,
            uint32_t nr_sectors, uint32_t first_page)
{
    uint32_t n = (nr_sectors + SECTORS_PER_PAGE - 1) / SECTORS_PER_PAGE;
    struct blkif_request request = {op, (uint8_t)n, 0, id, sector, {{0}}};
    struct blkif_request_segment *segment = request.seg;
    struct blkif_request_indirect *indirect = (void *)&request;

    if (n > BLKIF_MAX_SEGMENTS_PER_REQUEST) {
        uint32_t table = SEGMENT_PAGE + (uint32_t)(id % MAX_DEPTH);

        *indirect = (struct blkif_request_indirect){
            BLKIF_OP_INDIRECT,  op, (uint16_t)n, id, sector, 0,
            {FIRST_REF + table}};
        segment = (void *)page_at(f, table);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t left = nr_sectors - i * SECTORS_PER_PAGE;

        segment[i] = (struct blkif_request_segment){
            FIRST_REF + first_page + i, 0,
            (uint8_t)((left < SECTORS_PER_PAGE ? left : SECTORS_PER_PAGE) - 1)};
    }
    put(f, &request);
}

void ring_backend(struct frontend *f)
{
    eventfd_write(f->out, 1);
}

void push(struct frontend *f)
{
    uint32_t before = f->sring->req_prod, wanted;

    __atomic_store_n(&f->sring->req_prod, f->req_prod, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wanted = __atomic_load_n(&f->sring->req_event, __ATOMIC_RELAXED);
    if (f->req_prod - wanted < f->req_prod - before)
        ring_backend(f);
}

bool take(struct frontend *f, struct blkif_response *response)
{
    const char *slot = slot_at(f, f->rsp_cons);

    if (__atomic_load_n(&f->sring->rsp_prod, __ATOMIC_ACQUIRE) == f->rsp_cons)
        return false;
    memset(response, 0, sizeof(*response));
    /* id, operation and status stand alike; i386's is shorter. */
    memcpy(response, slot, 12);
    f->rsp_cons++;
    return true;
}

void take_wait(struct frontend *f, struct blkif_response *response)
{
    eventfd_t count;

    while (!take(f, response)) {
        __atomic_store_n(&f->sring->rsp_event, f->rsp_cons + 1,
                         __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (__atomic_load_n(&f->sring->rsp_prod, __ATOMIC_ACQUIRE) !=
            f->rsp_cons)
            continue;
        /* Non-blocking or not is the other side's to say. */
        if (eventfd_read(f->in, &count)) {
            fd_set set;

            FD_ZERO(&set);
            FD_SET(f->in, &set);
            select(f->in + 1, &set, NULL, NULL, NULL);
        }
    }
}
