/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "request.h"

#include <stddef.h>
#include <string.h>

#include <xen/io/blkif.h>

#define SECTORS_PER_PAGE (BLK_PAGE_BYTES / BLK_SECTOR_BYTES)
#define SEGMENTS_PER_PAGE (BLK_PAGE_BYTES / sizeof(struct blk_segment))
#define RING_HEADER_BYTES offsetof(struct blkif_sring, ring)

_Static_assert(sizeof(struct blk_segment) ==
                   sizeof(struct blkif_request_segment),
               "segments are copied as they are");
_Static_assert(BLK_MAX_SEGMENTS <= BLK_MAX_INDIRECT_PAGES * SEGMENTS_PER_PAGE,
               "a request has room for the pages of its segments");
_Static_assert(BLK_MAX_SEGMENTS >= BLKIF_MAX_SEGMENTS_PER_REQUEST, "");

/*
 * Where the fields of a slot are. i386 aligns 64-bit integers to four bytes,
 * so that all that follows the first is elsewhere.
 */
struct layout {
    uint8_t slot_bytes, response_bytes;
    uint8_t id, sector, segments; /* read, write, barrier, flush */
    uint8_t discard_nr_sectors;   /* discard; the others as above */
    uint8_t indirect_grefs;       /* indirect; the others as above */
    uint8_t response_op, response_status;
};

static const struct layout layouts[] = {
    [BLK_ABI_64] =
        {
            .slot_bytes = 112,
            .response_bytes = 16,
            .id = 8,
            .sector = 16,
            .segments = 24,
            .discard_nr_sectors = 24,
            .indirect_grefs = 28,
            .response_op = 8,
            .response_status = 10,
        },
    [BLK_ABI_32] =
        {
            .slot_bytes = 108,
            .response_bytes = 12,
            .id = 4,
            .sector = 12,
            .segments = 20,
            .discard_nr_sectors = 20,
            .indirect_grefs = 24,
            .response_op = 8,
            .response_status = 10,
        },
};

/* The 64-bit one is the compiler's own. */
_Static_assert(sizeof(struct blkif_request) == 112, "");
_Static_assert(sizeof(struct blkif_response) == 16, "");
_Static_assert(offsetof(struct blkif_request, sector_number) == 16, "");
_Static_assert(offsetof(struct blkif_request, seg) == 24, "");
_Static_assert(offsetof(struct blkif_request_discard, nr_sectors) == 24, "");
_Static_assert(offsetof(struct blkif_request_indirect, indirect_grefs) == 28,
               "");

uint32_t blk_slot_bytes(uint32_t abi)
{
    return layouts[abi].slot_bytes;
}

uint32_t blk_response_bytes(uint32_t abi)
{
    return layouts[abi].response_bytes;
}

uint32_t blk_ring_slots(uint32_t abi, uint32_t nr_pages)
{
    uint32_t fit = (uint32_t)((nr_pages * BLK_PAGE_BYTES - RING_HEADER_BYTES) /
                              layouts[abi].slot_bytes);

    return 1U << (31 - __builtin_clz(fit));
}

static uint64_t field64(const uint8_t *slot, uint8_t at)
{
    uint64_t value;

    memcpy(&value, slot + at, sizeof(value));
    return value;
}

static int16_t decode_direct(const struct layout *layout, const uint8_t *slot,
                             struct blk_request *request)
{
    request->nr_segments = slot[1];
    if (request->nr_segments > BLKIF_MAX_SEGMENTS_PER_REQUEST)
        return BLKIF_RSP_ERROR;
    memcpy(request->segment, slot + layout->segments,
           request->nr_segments * sizeof(request->segment[0]));
    return BLKIF_RSP_OKAY;
}

/* The answer names the operation inside: Linux' frontend insists on that. */
static int16_t decode_indirect(const struct layout *layout, const uint8_t *slot,
                               struct blk_request *request)
{
    request->op = slot[1];
    memcpy(&request->nr_segments, slot + 2, sizeof(request->nr_segments));
    if (request->op != BLKIF_OP_READ && request->op != BLKIF_OP_WRITE)
        return BLKIF_RSP_ERROR;
    if (!request->nr_segments || request->nr_segments > BLK_MAX_SEGMENTS)
        return BLKIF_RSP_ERROR;
    request->is_indirect = true;
    memcpy(request->indirect_gref, slot + layout->indirect_grefs,
           sizeof(request->indirect_gref));
    return BLKIF_RSP_OKAY;
}

int16_t blk_request_decode(uint32_t abi, const void *slot,
                           struct blk_request *request)
{
    const struct layout *layout = &layouts[abi];
    const uint8_t *byte = slot;

    request->op = byte[0];
    request->id = field64(byte, layout->id);
    request->sector = field64(byte, layout->sector);
    request->nr_sectors = 0;
    request->nr_segments = 0;
    request->is_indirect = request->is_secure = false;
    switch (request->op) {
    case BLKIF_OP_READ:
    case BLKIF_OP_WRITE:
    case BLKIF_OP_WRITE_BARRIER:
    case BLKIF_OP_FLUSH_DISKCACHE:
        return decode_direct(layout, byte, request);
    case BLKIF_OP_DISCARD:
        request->nr_sectors = field64(byte, layout->discard_nr_sectors);
        request->is_secure = byte[1] & BLKIF_DISCARD_SECURE;
        return BLKIF_RSP_OKAY;
    case BLKIF_OP_INDIRECT:
        return decode_indirect(layout, byte, request);
    default:
        return BLKIF_RSP_EOPNOTSUPP;
    }
}

uint32_t blk_indirect_pages(const struct blk_request *request)
{
    return (uint32_t)((request->nr_segments + SEGMENTS_PER_PAGE - 1) /
                      SEGMENTS_PER_PAGE);
}

static bool is_within(const struct blk_request *request,
                      const struct blk_volume *volume)
{
    /* blk_resize() may be at work. */
    uint64_t end = __atomic_load_n(&volume->nr_sectors, __ATOMIC_RELAXED);

    return request->sector <= end &&
           request->nr_sectors <= end - request->sector;
}

static bool is_of_blocks(const struct blk_request *request,
                         const struct blk_volume *volume)
{
    uint64_t mask = volume->block_bytes / BLK_SECTOR_BYTES - 1;

    return !((request->sector | request->nr_sectors) & mask);
}

static bool sum_segments(struct blk_request *request)
{
    request->nr_sectors = 0;
    for (uint32_t i = 0; i < request->nr_segments; i++) {
        const struct blk_segment *segment = &request->segment[i];

        if (segment->first_sect > segment->last_sect ||
            segment->last_sect >= SECTORS_PER_PAGE)
            return false;
        request->nr_sectors += segment->last_sect - segment->first_sect + 1U;
    }
    return true;
}

int16_t blk_request_check(struct blk_request *request,
                          const struct blk_volume *volume)
{
    if (request->op == BLKIF_OP_DISCARD) {
        if (!volume->can_discard ||
            (request->is_secure && !volume->can_erase_securely))
            return BLKIF_RSP_EOPNOTSUPP;
        if (volume->is_read_only || !is_within(request, volume) ||
            !is_of_blocks(request, volume))
            return BLKIF_RSP_ERROR;
        return BLKIF_RSP_OKAY;
    }
    if (!request->nr_segments) {
        /* A barrier or a flush alone. */
        return request->op == BLKIF_OP_READ || request->op == BLKIF_OP_WRITE
                   ? BLKIF_RSP_ERROR
                   : BLKIF_RSP_OKAY;
    }
    if (request->op != BLKIF_OP_READ && volume->is_read_only)
        return BLKIF_RSP_ERROR;
    if (!sum_segments(request) || !is_within(request, volume))
        return BLKIF_RSP_ERROR;
    /* Less than a block of the disk's would have to be read first. */
    return is_of_blocks(request, volume) ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;
}

uint32_t blk_response_encode(uint32_t abi, const struct blk_request *request,
                             int16_t status, void *slot)
{
    const struct layout *layout = &layouts[abi];
    uint8_t response[16] = {0};

    memcpy(response, &request->id, sizeof(request->id));
    response[layout->response_op] = request->op;
    memcpy(response + layout->response_status, &status, sizeof(status));
    memcpy(slot, response, layout->response_bytes);
    return layout->response_bytes;
}
