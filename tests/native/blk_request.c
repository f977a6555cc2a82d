/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the block engine makes of a slot, and what it refuses. */
#include "tests/native/harness.h"

#include <stddef.h>
#include <string.h>

#include <xen/io/blkif.h>

#include "blkbackd/csrc/request.h"

static const struct blk_volume disk = {
    .block_bytes = 512,
    .memory_align = 512,
    .can_discard = 1,
    .nr_sectors = 1000,
};

/* i386's layout, as that compiler would have it. */
struct request_32 {
    uint8_t operation, nr_segments;
    uint16_t handle;
    uint64_t id, sector_number;
    struct blkif_request_segment seg[11];
} __attribute__((packed, aligned(4)));

struct indirect_32 {
    uint8_t operation, indirect_op;
    uint16_t nr_segments;
    uint64_t id, sector_number;
    uint16_t handle, padding;
    uint32_t indirect_grefs[8];
    uint64_t pad;
} __attribute__((packed, aligned(4)));

struct discard_32 {
    uint8_t operation, flag;
    uint16_t handle;
    uint64_t id, sector_number, nr_sectors;
} __attribute__((packed, aligned(4)));

_Static_assert(sizeof(struct request_32) == 108, "");

TEST(both_abis_say_the_same)
{
    struct blkif_request native = {
        BLKIF_OP_WRITE, 2, 7, 0x1122334455667788, 41, {{3, 0, 7}, {4, 1, 2}}};
    struct request_32 narrow = {BLKIF_OP_WRITE,     2,  7,
                                0x1122334455667788, 41, {{3, 0, 7}, {4, 1, 2}}};
    const void *slots[] = {&native, &narrow};

    for (uint32_t abi = BLK_ABI_64; abi <= BLK_ABI_32; abi++) {
        struct blk_request request;

        CHECK_EQ(blk_request_decode(abi, slots[abi], &request), BLKIF_RSP_OKAY);
        CHECK_EQ(request.op, BLKIF_OP_WRITE);
        CHECK_EQ(request.id, 0x1122334455667788);
        CHECK_EQ(request.sector, 41);
        CHECK_EQ(request.nr_segments, 2);
        CHECK_EQ(request.segment[1].gref, 4);
        CHECK_EQ(request.segment[1].last_sect, 2);
        CHECK_EQ(blk_request_check(&request, &disk), BLKIF_RSP_OKAY);
        CHECK_EQ(request.nr_sectors, 10);
    }
}

TEST(discards_and_indirect_requests_in_both)
{
    struct blkif_request_discard d64 = {BLKIF_OP_DISCARD, 0, 0, 9, 10, 990};
    struct discard_32 d32 = {BLKIF_OP_DISCARD, 0, 0, 9, 10, 990};
    struct blkif_request_indirect i64 = {
        BLKIF_OP_INDIRECT, BLKIF_OP_READ, 200, 5, 6, 0, {21, 22}};
    struct indirect_32 i32 = {
        BLKIF_OP_INDIRECT, BLKIF_OP_READ, 200, 5, 6, 0, 0, {21, 22}, 0};
    uint8_t slot[112] = {0};

    for (uint32_t abi = BLK_ABI_64; abi <= BLK_ABI_32; abi++) {
        struct blk_request request;

        memcpy(slot, abi == BLK_ABI_64 ? (void *)&d64 : &d32, sizeof(d32));
        if (abi == BLK_ABI_64)
            memcpy(slot, &d64, sizeof(d64));
        CHECK_EQ(blk_request_decode(abi, slot, &request), BLKIF_RSP_OKAY);
        CHECK_EQ(request.nr_sectors, 990);
        CHECK_EQ(blk_request_check(&request, &disk), BLKIF_RSP_OKAY);
        request.nr_sectors++;
        CHECK_EQ(blk_request_check(&request, &disk), BLKIF_RSP_ERROR);
        request.nr_sectors = ~0UL; /* sector + nr_sectors is 9 */
        CHECK_EQ(blk_request_check(&request, &disk), BLKIF_RSP_ERROR);

        if (abi == BLK_ABI_64)
            memcpy(slot, &i64, sizeof(i64));
        else
            memcpy(slot, &i32, sizeof(i32));
        CHECK_EQ(blk_request_decode(abi, slot, &request), BLKIF_RSP_OKAY);
        CHECK(request.is_indirect);
        CHECK_EQ(request.op, BLKIF_OP_READ);
        CHECK_EQ(request.nr_segments, 200);
        CHECK_EQ(request.indirect_gref[1], 22);
        CHECK_EQ(blk_indirect_pages(&request), 1);
    }
}

TEST(a_secure_discard_is_not_a_plain_one)
{
    struct blkif_request_discard slot = {BLKIF_OP_DISCARD, 0, 0, 9, 10, 990};
    struct blk_request request;

    CHECK_EQ(blk_request_decode(BLK_ABI_64, &slot, &request), BLKIF_RSP_OKAY);
    CHECK(!request.is_secure);
    slot.flag = BLKIF_DISCARD_SECURE;
    CHECK_EQ(blk_request_decode(BLK_ABI_64, &slot, &request), BLKIF_RSP_OKAY);
    CHECK(request.is_secure);
    CHECK_EQ(blk_request_check(&request, &disk), BLKIF_RSP_EOPNOTSUPP);
}

TEST(rings_have_the_slots_that_io_ring_h_computes)
{
    CHECK_EQ(blk_ring_slots(BLK_ABI_64, 1), __CONST_RING_SIZE(blkif, 4096));
    CHECK_EQ(blk_ring_slots(BLK_ABI_32, 1), 32);
    CHECK_EQ(blk_ring_slots(BLK_ABI_64, 2), __CONST_RING_SIZE(blkif, 8192));
    CHECK_EQ(blk_ring_slots(BLK_ABI_64, 16), __CONST_RING_SIZE(blkif, 65536));
}

TEST(answers_have_the_abis_size)
{
    struct blk_request request = {.id = 77, .op = BLKIF_OP_READ};
    struct blkif_response native = {0};
    uint8_t narrow[16];

    CHECK_EQ(blk_response_encode(BLK_ABI_64, &request, -2, &native), 16);
    CHECK_EQ(native.id, 77);
    CHECK_EQ(native.status, -2);
    memset(narrow, 0xaa, sizeof(narrow));
    CHECK_EQ(blk_response_encode(BLK_ABI_32, &request, -1, narrow), 12);
    CHECK_EQ(narrow[10], 0xff);
    CHECK_EQ(narrow[12], 0xaa);
}

/* One bad thing each; what it is answered. */
TEST(what_cannot_be)
{
    static const struct {
        struct blkif_request slot;
        int16_t status;
    } bad[] = {
        {{BLKIF_OP_READ, 0, 0, 1, 0, {{0}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_WRITE, 0, 0, 1, 0, {{0}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_READ, 12, 0, 1, 0, {{0}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_READ, 255, 0, 1, 0, {{0}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_READ, 1, 0, 1, 0, {{8, 3, 2}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_READ, 1, 0, 1, 0, {{8, 0, 8}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_READ, 1, 0, 1, 0, {{8, 255, 255}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_READ, 1, 0, 1, 1000, {{8, 0, 0}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_READ, 1, 0, 1, 993, {{8, 0, 7}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_READ, 1, 0, 1, ~0UL, {{8, 0, 7}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_WRITE_BARRIER, 12, 0, 1, 0, {{0}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_RESERVED_1, 1, 0, 1, 0, {{0}}}, BLKIF_RSP_EOPNOTSUPP},
        {{200, 1, 0, 1, 0, {{0}}}, BLKIF_RSP_EOPNOTSUPP},
        /* Indirect: what is inside stands in nr_segments. */
        {{BLKIF_OP_INDIRECT, BLKIF_OP_INDIRECT, 5, 1, 0, {{0}}},
         BLKIF_RSP_ERROR},
        {{BLKIF_OP_INDIRECT, BLKIF_OP_WRITE, 0, 1, 0, {{0}}}, BLKIF_RSP_ERROR},
        {{BLKIF_OP_INDIRECT, BLKIF_OP_WRITE, 257, 1, 0, {{0}}},
         BLKIF_RSP_ERROR},
        {{BLKIF_OP_INDIRECT, BLKIF_OP_DISCARD, 5, 1, 0, {{0}}},
         BLKIF_RSP_ERROR},
    };

    for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct blk_request request;
        int16_t status;

        status = blk_request_decode(BLK_ABI_64, &bad[i].slot, &request);
        if (status == BLKIF_RSP_OKAY)
            status = blk_request_check(&request, &disk);
        CHECK_EQ(status, bad[i].status);
        CHECK_EQ(request.id, 1);
    }
}

TEST(what_a_volume_cannot)
{
    struct blk_volume volume = disk;
    struct blk_request request = {
        .op = BLKIF_OP_WRITE, .nr_segments = 1, .segment = {{8, 0, 0, 0}}};

    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_OKAY);
    volume.block_bytes = 4096;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_ERROR);
    request.segment[0].last_sect = 7;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_OKAY);
    request.sector = 4;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_ERROR);
    request.sector = 8;
    volume.is_read_only = 1;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_ERROR);
    request.op = BLKIF_OP_READ;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_OKAY);
    request.op = BLKIF_OP_DISCARD;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_ERROR);
    volume.is_read_only = 0;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_OKAY);
    /* Half of a block cannot be discarded either. */
    request.nr_sectors = 4;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_ERROR);
    request.nr_sectors = 8;
    request.is_secure = true;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_EOPNOTSUPP);
    volume.can_erase_securely = 1;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_OKAY);
    volume.can_discard = 0;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_EOPNOTSUPP);
    /* A flush of nothing writes nothing. */
    request.op = BLKIF_OP_FLUSH_DISKCACHE;
    request.nr_segments = 0;
    CHECK_EQ(blk_request_check(&request, &volume), BLKIF_RSP_OKAY);
}

TEST(any_bytes)
{
    uint64_t random = 88172645463325252, slot[14];

    for (int i = 0; i < 200000; i++) {
        struct blk_request request;

        for (int j = 0; j < 14; j++)
            slot[j] = random64(&random);
        ((uint8_t *)slot)[0] %= 8;
        ((uint8_t *)slot)[1] %= 13;
        if (blk_request_decode(i & 1, slot, &request) != BLKIF_RSP_OKAY ||
            request.is_indirect ||
            blk_request_check(&request, &disk) != BLKIF_RSP_OKAY)
            continue;
        CHECK(!request.nr_segments || request.nr_sectors);
        CHECK(request.op == BLKIF_OP_FLUSH_DISKCACHE ||
              request.op == BLKIF_OP_WRITE_BARRIER ||
              request.sector + request.nr_sectors <= disk.nr_sectors);
    }
}
