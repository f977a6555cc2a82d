/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A block request as the engine works with it, made from the copy of a ring
 * slot (io/blkif.h of Xen's public headers) in the frontend's ABI.
 *
 * All of it is arithmetic on copies: nothing here touches shared memory.
 */
#ifndef BLKBACKD_REQUEST_H
#define BLKBACKD_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

#define BLK_SECTOR_BYTES 512 /* of blkif's sectors, whatever the disk's are */
#define BLK_PAGE_BYTES 4096
#define BLK_MAX_INDIRECT_PAGES 8

/* struct blkif_request_segment: the same in both ABIs. */
struct blk_segment {
    uint32_t gref;
    uint8_t first_sect, last_sect; /* within the page, both included */
    uint16_t reserved;
};

struct blk_request {
    uint64_t id;
    uint64_t sector;
    uint64_t nr_sectors; /* 0 until blk_request_check(), but for discard */
    uint16_t nr_segments;
    uint8_t op;       /* what is to be done, and what the answer names */
    bool is_secure;   /* discard: nobody is to read it ever again */
    bool is_indirect; /* segment[] is still to be read from these pages: */
    uint32_t indirect_gref[BLK_MAX_INDIRECT_PAGES];
    struct blk_segment segment[BLK_MAX_SEGMENTS];
};

/* Bytes of a slot, and of a response in it, in an ABI. */
uint32_t blk_slot_bytes(uint32_t abi);
uint32_t blk_response_bytes(uint32_t abi);

/* How many slots a ring of so many pages has: a power of two. */
uint32_t blk_ring_slots(uint32_t abi, uint32_t nr_pages);

/*
 * Read a slot's copy. BLKIF_RSP_OKAY, or what to answer; id and op are set in
 * any case, for the answer.
 */
int16_t blk_request_decode(uint32_t abi, const void *slot,
                           struct blk_request *request);

/* Pages that segment[] of an indirect request stands in. */
uint32_t blk_indirect_pages(const struct blk_request *request);

/* May it be done on this volume? BLKIF_RSP_OKAY, or what to answer. */
int16_t blk_request_check(struct blk_request *request,
                          const struct blk_volume *volume);

/* A response as it stands in a slot of this ABI; returns its size. */
uint32_t blk_response_encode(uint32_t abi, const struct blk_request *request,
                             int16_t status, void *slot);

#endif
