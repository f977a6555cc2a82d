/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block engine on rings that the input fills, one of each ABI: an octet of
 * flags, one of how many requests are claimed, slots as they stand, and behind
 * them the page that segments of indirect requests stand in.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "blkbackd/csrc/engine.h"
#include "tests/native/blk_fakes.h"

/* Pages from NR_GRANTED on cannot be named: no disk is read into a ring. */
#define NR_GRANTED 20
#define SEGMENTS 10
#define NR_SECTORS 2048
#define SLOTS_AT 64 /* in a ring */
#define NR_SLOTS 32
#define TOO_MANY 255

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* They stay attached: to begin with io_setup(2) takes most of the time. */
static struct side {
    struct blk_engine *engine;
    uint32_t abi, slot_bytes, page;
    uint32_t asked;
} sides[] = {
    {.abi = BLK_ABI_64, .slot_bytes = 112, .page = NR_GRANTED},
    {.abi = BLK_ABI_32, .slot_bytes = 108, .page = NR_GRANTED + 1},
};

static struct blk_volume volume = {
    .block_bytes = 512,
    .memory_align = 1,
    .can_discard = 1,
    .nr_sectors = NR_SECTORS,
};

static struct blkif_sring *sring_of(const struct side *side)
{
    return (void *)(fake_memory + side->page * 4096L);
}

static void attach(struct side *side)
{
    struct blk_ring ring = {.domid = 5,
                            .port = FAKE_PORT,
                            .abi = side->abi,
                            .nr_pages = 1,
                            .ref = {side->page}};

    memset(sring_of(side), 0, 4096);
    side->asked = 0;
    fake_nr_granted = FAKE_PAGES;
    if (blk_attach(side->engine, &ring, &volume))
        abort();
}

static void begin(void)
{
    volume.fd = memfd_create("volume", MFD_CLOEXEC);
    if (volume.fd < 0 || ftruncate(volume.fd, NR_SECTORS * 512L))
        abort();
    fake_domain_new();
    for (int i = 0; i < 2; i++) {
        sides[i].engine = blk_new();
        if (!sides[i].engine)
            abort();
        attach(&sides[i]);
    }
}

/* Slots from the next one on, as many as there are octets for. */
static void fill(const struct side *side, const uint8_t *data, size_t bytes)
{
    char *slots = (char *)sring_of(side) + SLOTS_AT;
    char *segments = fake_memory + SEGMENTS * 4096L;

    for (uint32_t i = 0; i < NR_SLOTS; i++) {
        char *slot = slots + (side->asked + i) % NR_SLOTS * side->slot_bytes;
        size_t most = bytes < side->slot_bytes ? bytes : side->slot_bytes;

        memset(slot, 0, side->slot_bytes);
        memcpy(slot, data, most);
        data += most;
        bytes -= most;
    }
    memset(segments, 0, 4096);
    memcpy(segments, data, bytes < 4096 ? bytes : 4096);
}

/* Until all is answered, and once more: the last answers are shown then. */
static uint32_t serve(struct side *side)
{
    struct blk_statistics counters;
    struct blk_exit out;

    for (int nr_idle = 0; nr_idle < 2;) {
        blk_kick(side->engine);
        if (blk_run(side->engine, &out))
            abort();
        if (out.why == BLK_EXIT_BROKEN_RING)
            break;
        blk_statistics(side->engine, &counters);
        nr_idle = counters.depth ? 0 : nr_idle + 1;
    }
    return out.why;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct blkif_sring *sring;
    struct side *side;
    uint32_t claimed;

    if (bytes < 2)
        return 0;
    if (!volume.fd)
        begin();
    side = &sides[data[0] & 1];
    sring = sring_of(side);
    fake_nr_granted = data[0] & 2 ? SEGMENTS : NR_GRANTED;
    claimed = data[1] == TOO_MANY ? TOO_MANY : data[1] % (NR_SLOTS + 1);
    fill(side, data + 2, bytes - 2);
    side->asked += claimed;
    __atomic_store_n(&sring->req_prod, side->asked, __ATOMIC_RELEASE);
    if (serve(side) == BLK_EXIT_BROKEN_RING) {
        if (claimed != TOO_MANY)
            abort();
        blk_quiesce(side->engine);
        attach(side);
    } else if (claimed == TOO_MANY || sring->rsp_prod != side->asked) {
        abort(); /* an answer for each, and no more */
    }
    return 0;
}
