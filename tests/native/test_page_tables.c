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
            fix_page_fault(v, v->emu_cr3, va, random64(&seed) & 0x1f);
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

/*
 * Tables of fixed levels, as a guest that Xen would run has them, written by
 * plain stores where they are not in use: after each step every page's type
 * is what can be counted by hand.
 */
#define NR_TABLES 16 /* pages 1 on: 2 L4s, 3 L3s, 4 L2s, 7 L1s */
static const int level_of[NR_TABLES + 1] = {0, 4, 4, 3, 3, 3, 2, 2, 2,
                                            2, 1, 1, 1, 1, 1, 1, 1};
static bool is_pinned[NR_TABLES + 1];

static uint32_t counted(const struct vcpu *v, unsigned int page,
                        uint32_t counts[NR_TABLES + 1])
{
    uint32_t n = is_pinned[page] ? 1 : 0;
    bool used = v->pub.kernel_cr3 == GUEST_MFN(page) << 12 ||
                v->pub.user_cr3 == GUEST_MFN(page) << 12;

    /* One that was unpinned or never pinned counts itself. */
    if (page_types[GUEST_MFN(page)] & EMU_TYPE_ROOT) {
        CHECK(used);
        n++;
    } else {
        CHECK(!used || is_pinned[page]);
    }
    for (unsigned int upper = 1; upper < page; upper++) {
        if (!counts[upper] || level_of[upper] != level_of[page] + 1)
            continue;
        for (unsigned int i = 0; i < 256; i++)
            n += (table_at(upper)[i] & ~0xfffUL) == GUEST_MFN(page) << 12;
    }
    return n;
}

static void check_types(const struct vcpu *v)
{
    uint32_t counts[NR_TABLES + 1] = {0};

    for (unsigned int page = 1; page <= NR_TABLES; page++) {
        uint32_t type = page_types[GUEST_MFN(page)];

        counts[page] = counted(v, page, counts);
        CHECK_EQ(type / EMU_TYPE_REF, counts[page]);
        CHECK_EQ(type & EMU_TYPE_LEVEL,
                 counts[page] ? (unsigned int)level_of[page] : 0);
        CHECK_EQ(!!(type & EMU_TYPE_PINNED), is_pinned[page]);
    }
}

/* An entry of an upper table: a table of the level below it, itself, or none. */
static void change_entry(struct vcpu *v, uint64_t random)
{
    unsigned int upper = 1 + random % 9, to = 1 + (random >> 8) % NR_TABLES;
    unsigned int i = random >> 16 & 255;
    mmu_update_t u = {.ptr = GUEST_MFN(upper) << 12 | i << 3};
    uint64_t arg[5] = {NATIVE_GUEST_VA, 1, 0, DOMID_SELF};

    u.ptr |=
        random >> 24 & 1 ? MMU_PT_UPDATE_PRESERVE_AD : MMU_NORMAL_PT_UPDATE;
    if (level_of[to] == level_of[upper] - 1 || to == upper)
        u.val = GUEST_MFN(to) << 12 | (random >> 32 & 0x60) | 3;
    if (!(page_types[GUEST_MFN(upper)] & EMU_TYPE_LEVEL) && random >> 40 & 1) {
        table_at(upper)[i] = u.val;
        return;
    }
    memcpy(native_guest, &u, sizeof(u));
    CHECK_EQ(native_hypercall(v, __HYPERVISOR_mmu_update, arg), 0);
}

TEST(types_are_counted)
{
    struct vcpu *v = native_start();
    uint64_t seed = 11;

    memset(is_pinned, 0, sizeof(is_pinned));
    for (unsigned int step = 0; step < 6000; step++) {
        uint64_t random = random64(&seed);
        unsigned int page = 1 + (random >> 8) % NR_TABLES;
        uint64_t mfn = GUEST_MFN(page);
        unsigned int cmd =
            MMUEXT_PIN_L1_TABLE + (unsigned int)level_of[page] - 1;

        switch (random & 7) {
        case 0:
            CHECK_EQ(mmuext(v, cmd, mfn), is_pinned[page] ? -XEN_EINVAL : 0);
            is_pinned[page] = true;
            break;
        case 1:
        case 2:
            CHECK_EQ(mmuext(v, MMUEXT_UNPIN_TABLE, mfn),
                     is_pinned[page] ? 0 : -XEN_EINVAL);
            is_pinned[page] = false;
            break;
        case 3:
            mfn = GUEST_MFN(random >> 8 & 1 ? 0 : 1 + (random >> 9 & 1));
            CHECK_EQ(mmuext(v, MMUEXT_NEW_BASEPTR, mfn), 0);
            break;
        case 4:
            mfn = random >> 8 & 1 ? 0 : GUEST_MFN(1 + (random >> 9 & 1));
            CHECK_EQ(mmuext(v, MMUEXT_NEW_USER_BASEPTR, mfn), 0);
            break;
        default:
            change_entry(v, random >> 3);
        }
        check_types(v);
    }
    CHECK_EQ(mmuext(v, MMUEXT_NEW_BASEPTR, GUEST_MFN(0)), 0);
    CHECK_EQ(mmuext(v, MMUEXT_NEW_USER_BASEPTR, 0), 0);
    for (unsigned int page = 1; page <= NR_TABLES; page++) {
        mmuext(v, MMUEXT_UNPIN_TABLE, GUEST_MFN(page));
        is_pinned[page] = false;
    }
    for (unsigned int page = 1; page <= NR_TABLES; page++)
        CHECK_EQ(page_types[GUEST_MFN(page)], 0);
}
