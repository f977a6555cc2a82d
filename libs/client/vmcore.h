/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A domain's memory: the file vmcore.<domid> of the runtime directory, in
 * which a machine address is an offset. The file never shrinks.
 */
#ifndef LIBS_VMCORE_H
#define LIBS_VMCORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define VMCORE_PAGE_BYTES 4096

struct vmcore {
    uint32_t domid;
    int fd;
    uint64_t bytes;
    uint64_t identity; /* one domain's file, not its successor's */
};

/* 0, or -1: ESRCH there is no such domain, or what open(2) says. */
int vmcore_open(struct vmcore *core, uint32_t domid, bool cloexec);

/* Is it still the memory of the domain of that number? */
bool vmcore_is_current(const struct vmcore *core);

/* Is it a page of the guest's, or the one that it shares with everybody? */
bool vmcore_has_frame(const struct vmcore *core, uint64_t mfn);

/*
 * Keep the guest from giving frames back to the host, which would make a touch
 * of them allocate, and a signal of it where there is no room. It is a lock of
 * the open file that the VM process respects (xenner/vmcorelocks.py has the
 * rules): it lasts until vmcore_unpin(), or as long as the descriptor and all
 * that is mapped through it. 0, or -1 and errno.
 */
int vmcore_pin(const struct vmcore *core, uint64_t frame, uint64_t nr_pages);
void vmcore_unpin(const struct vmcore *core, uint64_t frame, uint64_t nr_pages);

/*
 * Frames that are pinned, with memory behind each: one that was given back
 * before gets zeros. False: there is no room for that; what is mapped instead
 * must be the mapper's own memory.
 */
bool vmcore_fill(const struct vmcore *core, uint64_t frame, uint64_t nr_pages);

/* Has no frame been given back? False where that is not known. */
bool vmcore_is_whole(const struct vmcore *core);

/* Address space for so many pages, to be mapped into; NULL and errno. */
void *vmcore_reserve(void *wanted, uint64_t nr_pages, int flags);

/*
 * Map frames, one page after the other, at where; runs of neighbours are one
 * mapping. frame[] has passed vmcore_has_frame() and is pinned and filled.
 */
int vmcore_map(const struct vmcore *core, void *where, int prot,
               const uint64_t *frame, uint64_t nr_pages);

/* Zeros of the mapper's own, for a frame that could not be filled. */
int vmcore_map_zeros(void *where, int prot, uint64_t nr_pages);

#endif
