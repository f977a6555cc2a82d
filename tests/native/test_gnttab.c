/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Grants: random tables and copies; nothing is reached that was not granted,
 * and no grant stays marked as in use. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include <string.h>

#define NR_GRANTS 16

static struct vcpu *vcpu;
static uint64_t random = 0x9e3779b97f4a7c15;

static struct grant_entry_v1 *table(void)
{
    return machine(GRANT_FRAMES_GPA);
}

static int16_t copy(struct gnttab_copy op)
{
    uint64_t args[5] = {GNTTABOP_copy, NATIVE_GUEST_VA, 1};

    op.status = 99;
    memcpy(native_guest, &op, sizeof(op));
    CHECK_EQ(native_hypercall(vcpu, __HYPERVISOR_grant_table_op, args), 0);
    memcpy(&op, native_guest, sizeof(op));
    return op.status;
}

static void fill_table(void)
{
    for (unsigned int i = 0; i < NR_GRANTS; i++) {
        uint64_t r = random64(&random);

        table()[i] = (struct grant_entry_v1){
            .flags = (uint16_t)((r & 3) | (r & 4 ? GTF_readonly : 0)),
            .domid = r & 8 ? (domid_t)shared->domid : 99,
            .frame = (uint32_t)(r & 0x30 ? GUEST_MFN(r >> 8 & 7) : r >> 16),
        };
    }
}

static bool usable(uint32_t ref, bool is_write)
{
    const struct grant_entry_v1 *e = &table()[ref];

    return (e->flags & GTF_type_mask) == GTF_permit_access &&
           e->domid == shared->domid &&
           !(is_write && e->flags & GTF_readonly) && mfn_guest(e->frame);
}

static void step(void)
{
    struct grant_entry_v1 before[NR_GRANTS];
    uint64_t r = random64(&random);
    struct gnttab_copy op = {
        .source = {.u.ref = r & 31,
                   .domid = (domid_t)shared->domid,
                   .offset = (uint16_t)(r >> 8 & 0x1fff)},
        .dest = {.u.ref = r >> 24 & 31,
                 .domid = DOMID_SELF,
                 .offset = (uint16_t)(r >> 32 & 0x1fff)},
        .len = (uint16_t)(r >> 48 & 0x7ff),
        .flags = GNTCOPY_source_gref | GNTCOPY_dest_gref,
    };
    bool fits =
        op.source.offset + op.len <= 4096 && op.dest.offset + op.len <= 4096;
    int16_t status;

    memcpy(before, table(), sizeof(before));
    status = copy(op);
    CHECK_EQ(status == GNTST_okay, fits && usable(op.source.u.ref, false) &&
                                       usable(op.dest.u.ref, true));
    CHECK(!memcmp(before, table(), sizeof(before)));
}

TEST(only_what_was_granted_is_copied)
{
    vcpu = native_start();
    for (unsigned int round = 0; round < 200; round++) {
        fill_table();
        for (unsigned int i = 0; i < 200; i++)
            step();
    }
}
