/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mm.c with page tables that no sane guest would build. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include <string.h>
#include <xen/memory.h>

static uint64_t *table_at(uint64_t n)
{
    return machine(GUEST_MFN(n) << 12);
}

static int64_t mmuext(struct vcpu *v, unsigned int cmd, uint64_t mfn)
{
    struct mmuext_op o = {.cmd = cmd, .arg1.mfn = mfn};
    uint64_t arg[5] = {NATIVE_GUEST_VA, 1, 0, DOMID_SELF};

    memcpy(native_guest, &o, sizeof(o));
    return native_hypercall(v, __HYPERVISOR_mmuext_op, arg);
}

/* A root whose every entry is itself, and tables in a ring. */
TEST(loops)
{
    struct vcpu *v = native_start();

    for (unsigned int i = 0; i < 256; i++)
        table_at(1)[i] = GUEST_MFN(1) << 12 | 7;
    mmuext(v, MMUEXT_PIN_L4_TABLE, GUEST_MFN(1));
    mmuext(v, MMUEXT_UNPIN_TABLE, GUEST_MFN(1));
    for (unsigned int i = 0; i < 512; i++) {
        table_at(2)[i] = GUEST_MFN(3) << 12 | 7;
        table_at(3)[i] = GUEST_MFN(2) << 12 | 7;
    }
    mmuext(v, MMUEXT_PIN_L3_TABLE, GUEST_MFN(2));
    mmuext(v, MMUEXT_PIN_L1_TABLE, GUEST_MFN(2));
    mmuext(v, MMUEXT_UNPIN_TABLE, GUEST_MFN(2));
    CHECK_EQ(shared->magic, EMU_ABI_MAGIC);
}

/* Entries that point at nothing, at emu, past the end, with any flags. */
TEST(wild_entries)
{
    uint64_t seed = 3;

    for (unsigned int round = 0; round < 200; round++) {
        struct vcpu *v = native_start();

        for (unsigned int t = 1; t < 8; t++)
            for (unsigned int i = 0; i < 512; i++) {
                uint64_t r = random64(&seed);

                table_at(t)[i] =
                    r & 3 ? GUEST_MFN(r >> 8 & 7) << 12 | (r & 0xfff) : r;
            }
        mmuext(v, MMUEXT_PIN_L4_TABLE, GUEST_MFN(1));
        mmuext(v, MMUEXT_NEW_BASEPTR, GUEST_MFN(1));
        for (unsigned int i = 0; i < 50; i++) {
            uint64_t va = random64(&seed);

            va = (uint64_t)((int64_t)(va << 16) >> 16);
            fix_page_fault(v, va, random64(&seed) & 0x1f);
            walk(v->pub.kernel_cr3, va, 1 + (int)(va >> 20 & 3));
        }
        mmuext(v, MMUEXT_UNPIN_TABLE, GUEST_MFN(1));
        CHECK_EQ(shared->magic, EMU_ABI_MAGIC);
        CHECK_EQ(v->pub.id, 0);
    }
}

TEST(machine_pages_that_are_not_the_guests)
{
    struct vcpu *v = native_start();
    static const uint64_t mfns[] = {
        0,       0x10,      0x200,
        0x300,   0x400,     0x1000,
        0xfffff, 0xfe000,   0xffffffffff,
        ~0UL,    1UL << 52, NATIVE_MACHINE_BYTES >> 12};

    for (unsigned int i = 0; i < ARRAY_SIZE(mfns); i++) {
        CHECK(mmuext(v, MMUEXT_PIN_L4_TABLE, mfns[i]) < 0);
        CHECK(mmuext(v, MMUEXT_PIN_L1_TABLE, mfns[i]) < 0);
        CHECK(mmuext(v, MMUEXT_NEW_BASEPTR, mfns[i]) < 0);
        CHECK(mmuext(v, MMUEXT_CLEAR_PAGE, mfns[i]) < 0);
    }
    CHECK_EQ(shared->magic, EMU_ABI_MAGIC);
}
