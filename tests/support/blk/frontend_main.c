/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A block frontend that does what it is told, line by line:
 *
 *     frontend DOMID
 *
 * start                       be the domain (it is registered by then)
 * queue NUMBER                what follows is that queue's: "queue=NUMBER"
 * open PAGES BITS             answers "port=PORT ref=REF", and those after it
 * io OP SECTOR COUNT BYTE     write that byte, or read and compare with it:
 *                             "status=N same=0|1"
 * none OP                     a request without segments: "status=N"
 * discard SECTOR COUNT        "status=N"
 * raw OP NR SECTOR GREF FIRST LAST   anything, with all NR segments alike
 * indirect OP NR GREF         anything indirect: "status=N"
 * ids COUNT                   so many reads with one id: "answers=N"
 * flood COUNT                 requests that cannot be, as fast as answers come
 * alternate COUNT             reads of 1 MiB into two pages by turns:
 *                             "answers=N errors=N"
 * scribble COUNT              requests that change while they are served
 * index STEP                  move the index so far, and ring
 * later SECTOR                a read whose answer is for later
 * answers                     take what there is, all of it: "answers=N"
 * verify COUNT DEPTH [1]      writes, with a 1 barriers, flushes and discards
 *                             too, each read again, by all queues at once:
 *                             "at=N" at every eighth of the first's, then of
 *                             all "answers=N wrong=N"
 * bench OP BYTES DEPTH SECONDS SECTORS IN_ORDER   "requests=N seconds=S"
 */
#include "tests/support/blk/frontend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t random_state = 88172645463325252;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int ask(struct frontend *f, const struct blkif_request *request)
{
    struct blkif_response response;

    put(f, request);
    push(f);
    take_wait(f, &response);
    must(response.id == request->id, "another request's answer");
    return response.status;
}

static void do_io(struct frontend *f, const char *line)
{
    unsigned int op, count, byte;
    struct blkif_response response;
    uint64_t sector;
    char *data = page_at(f, DATA_PAGE), *reference;
    bool is_same;

    must(sscanf(line, "io %u %lu %u %u", &op, &sector, &count, &byte) == 4,
         line);
    reference = malloc(count * 512L);
    memset(reference, (int)byte, count * 512L);
    memset(data, op ? (int)byte : ~(int)byte, count * 512L);
    put_io(f, (uint8_t)op, 7, sector, count, DATA_PAGE);
    push(f);
    take_wait(f, &response);
    is_same = !memcmp(data, reference, count * 512L);
    free(reference);
    printf("status=%d same=%d\n", response.status, is_same);
}

static void do_raw(struct frontend *f, const char *line)
{
    struct blkif_request request = {.id = 3};
    unsigned int op, nr, gref, first, last;

    must(sscanf(line, "raw %u %u %lu %u %u %u", &op, &nr,
                &request.sector_number, &gref, &first, &last) == 6,
         line);
    request.operation = (uint8_t)op;
    request.nr_segments = (uint8_t)nr;
    for (int i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++)
        request.seg[i] =
            (struct blkif_request_segment){gref, (uint8_t)first, (uint8_t)last};
    printf("status=%d\n", ask(f, &request));
}

static void do_indirect(struct frontend *f, const char *line)
{
    struct blkif_request request = {.id = 0};
    struct blkif_request_indirect *indirect = (void *)&request;
    unsigned int op, nr, gref;

    must(sscanf(line, "indirect %u %u %u", &op, &nr, &gref) == 3, line);
    *indirect = (struct blkif_request_indirect){
        BLKIF_OP_INDIRECT, (uint8_t)op, (uint16_t)nr, 4, 0, 0, {gref}};
    printf("status=%d\n", ask(f, &request));
}

static void do_discard(struct frontend *f, const char *line)
{
    struct blkif_request request = {.id = 0};
    struct blkif_request_discard discard = {BLKIF_OP_DISCARD, 0, 0, 5, 0, 0};

    must(sscanf(line, "discard %lu %lu", &discard.sector_number,
                &discard.nr_sectors) == 2,
         line);
    memcpy(&request, &discard, sizeof(discard));
    printf("status=%d\n", ask(f, &request));
}

/*
 * Keep the ring full of what put_one() puts, until so many are answered; how
 * many of them by an error.
 */
static uint32_t keep_full(struct frontend *f, uint32_t count,
                          void (*put_one)(struct frontend *f, uint32_t number))
{
    struct blkif_response response;
    uint32_t asked = 0, answered = 0, errors = 0;

    while (answered < count) {
        while (asked < count && asked - answered < f->nr_slots)
            put_one(f, asked++);
        push(f);
        take_wait(f, &response);
        do {
            answered++;
            errors += response.status != BLKIF_RSP_OKAY;
        } while (take(f, &response));
    }
    printf("answers=%u", answered);
    return errors;
}

static void answer_all(struct frontend *f, uint32_t count,
                       void (*put_one)(struct frontend *f, uint32_t number))
{
    keep_full(f, count, put_one);
    puts("");
}

static void put_same_id(struct frontend *f, uint32_t number)
{
    (void)number;
    put_io(f, BLKIF_OP_READ, 1, 0, 8, DATA_PAGE);
}

static void put_impossible(struct frontend *f, uint32_t number)
{
    struct blkif_request request = {
        BLKIF_OP_READ, 1, 0, number, ~0UL, {{FIRST_REF + DATA_PAGE, 0, 7}}};

    put(f, &request);
}

/*
 * And then, while the backend may be reading it, other bytes: so small that no
 * reference becomes the ring's own, which would be the end of it.
 */
static void put_unsteady(struct frontend *f, uint32_t number)
{
    uint32_t mine = f->req_prod;

    put_io(f, (uint8_t)(number % 4), number, number % 64 * 8, 8,
           DATA_PAGE + number % MAX_DEPTH);
    push(f);
    for (int i = 0; i < 8; i++) {
        uint64_t value = random64();
        char *slot =
            (char *)f->sring + 64 + (mine & (f->nr_slots - 1)) * f->slot_bytes;

        ((volatile uint8_t *)slot)[value % f->slot_bytes] =
            (uint8_t)(value >> 32) % FIRST_REF;
    }
}

/* As many mappings as there can be, for whom each page is one of its own. */
static void put_alternating(struct frontend *f, uint32_t number)
{
    struct blkif_request_segment *segment = (void *)page_at(f, SEGMENT_PAGE);
    struct blkif_request request = {.id = 0};
    struct blkif_request_indirect indirect = {
        BLKIF_OP_INDIRECT,         BLKIF_OP_READ, MAX_SEGMENTS, number, 0, 0,
        {FIRST_REF + SEGMENT_PAGE}};

    for (uint32_t i = 0; i < MAX_SEGMENTS; i++)
        segment[i] = (struct blkif_request_segment){
            FIRST_REF + DATA_PAGE + i % 2 * 2, 0, SECTORS_PER_PAGE - 1};
    memcpy(&request, &indirect, sizeof(indirect));
    put(f, &request);
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t next_sector(uint64_t nr_sectors, uint32_t step, bool in_order)
{
    static uint64_t next;
    uint64_t block = in_order ? next++ : random64();

    return block % (nr_sectors / step) * step;
}

static void do_bench(struct frontend *f, const char *line)
{
    unsigned int op, bytes, depth, per_request, in_order = 0;
    struct blkif_response response;
    double seconds, began, now;
    uint64_t nr_sectors, done = 0;
    uint32_t busy = 0, id;

    must(sscanf(line, "bench %u %u %u %lf %lu %u", &op, &bytes, &depth,
                &seconds, &nr_sectors, &in_order) >= 5,
         line);
    must(depth <= MAX_DEPTH && depth <= f->nr_slots, "depth");
    per_request = bytes / 512;
    began = now = now_s();
    while (busy < depth) {
        put_io(f, (uint8_t)op, busy,
               next_sector(nr_sectors, per_request, in_order), per_request,
               DATA_PAGE + busy * PAGES_PER_REQUEST);
        busy++;
    }
    push(f);
    while (busy) {
        take_wait(f, &response);
        do {
            must(response.status == BLKIF_RSP_OKAY, "an error");
            done++;
            busy--;
            id = (uint32_t)response.id;
            if (now - began >= seconds)
                continue;
            put_io(f, (uint8_t)op, id,
                   next_sector(nr_sectors, per_request, in_order), per_request,
                   DATA_PAGE + id * PAGES_PER_REQUEST);
            busy++;
        } while (take(f, &response));
        push(f);
        now = now_s();
    }
    printf("requests=%lu seconds=%.6f\n", done, now - began);
}

static void obey(struct frontend *f, const char *line)
{
    struct blkif_request request = {.id = 9};
    struct blkif_response response;
    unsigned int a, b, c = 0;
    uint64_t sector;

    if (sscanf(line, "open %u %u", &a, &b) == 2) {
        frontend_open(f, a, b == 32);
        printf("port=%u ref=%u\n", f->port, FIRST_REF + ring_page(f));
    } else if (!strncmp(line, "io ", 3)) {
        do_io(f, line);
    } else if (sscanf(line, "none %u", &a) == 1) {
        request.operation = (uint8_t)a;
        printf("status=%d\n", ask(f, &request));
    } else if (!strncmp(line, "discard ", 8)) {
        do_discard(f, line);
    } else if (!strncmp(line, "raw ", 4)) {
        do_raw(f, line);
    } else if (!strncmp(line, "indirect ", 9)) {
        do_indirect(f, line);
    } else if (sscanf(line, "ids %u", &a) == 1) {
        answer_all(f, a, put_same_id);
    } else if (sscanf(line, "verify %u %u %u", &a, &b, &c) >= 2) {
        verify(f - f->number, a, b, c);
    } else if (sscanf(line, "flood %u", &a) == 1) {
        answer_all(f, a, put_impossible);
    } else if (sscanf(line, "alternate %u", &a) == 1) {
        printf(" errors=%u\n", keep_full(f, a, put_alternating));
    } else if (sscanf(line, "scribble %u", &a) == 1) {
        answer_all(f, a, put_unsteady);
    } else if (sscanf(line, "index %u", &a) == 1) {
        f->sring->req_prod += a;
        ring_backend(f);
        puts("moved");
    } else if (sscanf(line, "later %lu", &sector) == 1) {
        put_io(f, BLKIF_OP_READ, 1, sector, 8, DATA_PAGE);
        push(f);
        puts("asked");
    } else if (!strncmp(line, "answers", 7)) {
        for (a = 0; f->rsp_cons != f->req_prod; a++)
            take_wait(f, &response);
        printf("answers=%u\n", a);
    } else {
        do_bench(f, line);
    }
}

int main(int argc, char **argv)
{
    struct frontend queues[MAX_QUEUES] = {0}, *f = queues;
    unsigned int number;
    char line[256];

    must(argc == 2, "frontend DOMID");
    setlinebuf(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        if (!strncmp(line, "start", 5)) {
            frontend_new(queues, (uint32_t)atoi(argv[1]));
            for (number = 1; number < MAX_QUEUES; number++) {
                queues[number] = queues[0];
                queues[number].number = number;
            }
            puts("started");
        } else if (sscanf(line, "queue %u", &number) == 1) {
            must(number < MAX_QUEUES, line);
            f = &queues[number];
            printf("queue=%u\n", number);
        } else {
            obey(f, line);
        }
    }
    return 0;
}
