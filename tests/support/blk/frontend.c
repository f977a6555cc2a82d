/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/blk/frontend.h"

#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <unistd.h>

void frontend_new(struct frontend *f, uint32_t domid)
{
    domain_open(domid, &f->memory, &f->grants, &f->client);
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
