/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A slot of a block ring, in both ABIs: what is done is within the disk. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <xen/io/blkif.h>

#include "blkbackd/csrc/request.h"

#define SLOT_BYTES 112

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(const struct blk_request *request,
                  const struct blk_volume *volume)
{
    uint64_t sectors = 0;

    if (request->op == BLKIF_OP_DISCARD)
        sectors = request->nr_sectors;
    for (uint32_t i = 0; i < request->nr_segments; i++) {
        const struct blk_segment *segment = &request->segment[i];

        if (segment->last_sect > 7 || segment->first_sect > segment->last_sect)
            abort();
        sectors += segment->last_sect - segment->first_sect + 1U;
    }
    if (sectors && (request->sector > volume->nr_sectors ||
                    sectors > volume->nr_sectors - request->sector))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct blk_volume volume = {.block_bytes = 512,
                                .memory_align = 1,
                                .can_discard = 1,
                                .nr_sectors = 1000};
    static struct blk_request request;
    /* Of its own: a read behind the slot is seen. */
    uint8_t *slot, response[16];
    uint32_t abi, slot_bytes;
    int16_t status;

    if (bytes < 1 + SLOT_BYTES)
        return 0;
    abi = data[0] & 1 ? BLK_ABI_32 : BLK_ABI_64;
    volume.is_read_only = data[0] >> 1 & 1;
    volume.block_bytes = data[0] & 4 ? 4096 : 512;
    slot_bytes = blk_slot_bytes(abi);
    slot = malloc(slot_bytes);
    memcpy(slot, data + 1, slot_bytes);
    memset(&request, 0xa5, sizeof(request));
    status = blk_request_decode(abi, slot, &request);
    if (status == BLKIF_RSP_OKAY) {
        if (request.is_indirect) {
            size_t most = bytes - 1 - SLOT_BYTES;

            if (most > request.nr_segments * sizeof(request.segment[0]))
                most = request.nr_segments * sizeof(request.segment[0]);
            memcpy(request.segment, data + 1 + SLOT_BYTES, most);
        }
        status = blk_request_check(&request, &volume);
        if (status == BLKIF_RSP_OKAY)
            check(&request, &volume);
    }
    if (blk_response_encode(abi, &request, status, response) > slot_bytes)
        abort();
    free(slot);
    return 0;
}
