/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every hypercall with wild arguments and wild memory behind its pointers. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include <stdlib.h>
#include <string.h>
#include <xen/memory.h>
#include <xen/version.h>

/* Values that mean something to somebody, and values that do not. */
static uint64_t wild(uint64_t *seed)
{
    uint64_t r = random64(seed);

    switch (r >> 8 & 7) {
    case 0:
        return r >> 16 & 15;
    case 1:
        return NATIVE_GUEST_VA + (r >> 16 & (NATIVE_GUEST_BYTES - 1));
    case 2:
        return NATIVE_GUEST_VA + NATIVE_GUEST_BYTES - (r >> 16 & 63);
    case 3:
        return (GUEST_MFN(r >> 16 & 1023) << 12) | (r >> 40 & 7);
    case 4:
        return GUEST_MFN(r >> 16 & 1023);
    case 5:
        return (r >> 16 & 1) ? ~0UL - (r >> 17 & 15)
                             : 0x7fffffffUL << (r >> 17 & 32);
    case 6:
        return DOMID_SELF;
    default:
        return random64(seed);
    }
}

/* Guest memory full of such values. */
static void fill_guest(uint64_t *seed)
{
    for (unsigned int at = 0; at < NATIVE_GUEST_BYTES; at += 8) {
        uint64_t value = wild(seed);

        memcpy(&native_guest[at], &value, 8);
    }
}

TEST(wild_arguments)
{
    uint64_t seed = 0x5eed;

    for (unsigned int round = 0; round < 40; round++) {
        struct vcpu *v = native_start();

        fill_guest(&seed);
        for (unsigned int i = 0; i < 3000; i++) {
            uint64_t arg[5], nr = random64(&seed) % 64;

            for (unsigned int j = 0; j < 5; j++)
                arg[j] = wild(&seed);
            if (i % 100 == 0)
                fill_guest(&seed);
            guest_frame(v)->rsp = wild(&seed);
            native_hypercall(v, nr, arg);
            v->pub.in_kernel = 1;
        }
        /* Whatever was asked, emu's own memory is as it was. */
        CHECK_EQ(shared->magic, EMU_ABI_MAGIC);
        CHECK_EQ(shared->guest_mfn, GUEST_MFN(0));
        CHECK_EQ(shared->nr_vcpus, 1);
        /* General detect would make emu's own next access trap. */
        CHECK_EQ(native_cpu.dr[7] & 0x2000, 0);
    }
}

/* Pages leave and come 64 to a request, and only such as are there. */
TEST(balloon)
{
    struct vcpu *v = native_start();
    struct xen_memory_reservation r = {.nr_extents = 100, .domid = DOMID_SELF};
    uint64_t *frames = (uint64_t *)(native_guest + 0x1000);
    uint64_t arg[5] = {XENMEM_decrease_reservation, NATIVE_GUEST_VA};

    r.extent_start.p = (xen_pfn_t *)(NATIVE_GUEST_VA + 0x1000);
    memcpy(native_guest, &r, sizeof(r));
    for (unsigned int i = 0; i < 100; i++)
        frames[i] = GUEST_MFN(i + 1);
    CHECK_EQ(native_hypercall(v, __HYPERVISOR_memory_op, arg), 100);
    CHECK_EQ(native_last_request, EMU_REQUEST_BALLOON);
    CHECK_EQ(v->pub.request.arg[0], EMU_BALLOON_GIVE);
    CHECK_EQ(v->pub.request.length, (100 - 64) * 8);
    CHECK_EQ(m2p[GUEST_MFN(100)], ~0UL);
    CHECK_EQ(native_hypercall(v, __HYPERVISOR_memory_op, arg), 0);

    arg[0] = XENMEM_populate_physmap;
    for (unsigned int i = 0; i < 100; i++)
        frames[i] = i + 1;
    frames[70] = GUEST_NR_PAGES;
    CHECK_EQ(native_hypercall(v, __HYPERVISOR_memory_op, arg), 70);
    CHECK_EQ(v->pub.request.arg[0], EMU_BALLOON_TAKE);
    CHECK_EQ(v->pub.request.length, (70 - 64) * 8);
    CHECK_EQ(frames[69], GUEST_MFN(70));
    CHECK_EQ(m2p[GUEST_MFN(70)], 70);
    CHECK_EQ(m2p[GUEST_MFN(71)], ~0UL);
}

/* A host that has no page: the guest has none, however many it asked for. */
TEST(populate_refused)
{
    static const unsigned int counts[] = {1, 63, 64, 65, 100};
    struct xen_memory_reservation r = {.domid = DOMID_SELF};
    uint64_t *frames = (uint64_t *)(native_guest + 0x1000);
    uint64_t arg[5] = {XENMEM_populate_physmap, NATIVE_GUEST_VA};

    r.extent_start.p = (xen_pfn_t *)(NATIVE_GUEST_VA + 0x1000);
    for (unsigned int i = 0; i < ARRAY_SIZE(counts); i++) {
        struct vcpu *v = native_start();

        native_result = -XEN_ENOMEM;
        r.nr_extents = counts[i];
        memcpy(native_guest, &r, sizeof(r));
        for (unsigned int n = 0; n < 100; n++) {
            frames[n] = n + 1;
            m2p[GUEST_MFN(n + 1)] = ~0UL;
        }
        CHECK_EQ(native_hypercall(v, __HYPERVISOR_memory_op, arg), 0);
        CHECK_EQ(m2p[GUEST_MFN(1)], ~0UL);
    }
}

/* increase_reservation finds what was given back, in pieces as asked for. */
TEST(increase_reservation)
{
    struct vcpu *v = native_start();
    struct xen_memory_reservation r = {.nr_extents = 3, .domid = DOMID_SELF};
    uint64_t *frames = (uint64_t *)(native_guest + 0x1000);
    uint64_t arg[5] = {XENMEM_increase_reservation, NATIVE_GUEST_VA};

    r.extent_start.p = (xen_pfn_t *)(NATIVE_GUEST_VA + 0x1000);
    memcpy(native_guest, &r, sizeof(r));
    CHECK_EQ(native_hypercall(v, __HYPERVISOR_memory_op, arg), 0);
    m2p[GUEST_MFN(5)] = m2p[GUEST_MFN(8)] = m2p[GUEST_MFN(9)] = ~0UL;
    r.nr_extents = 1;
    r.extent_order = 1;
    memcpy(native_guest, &r, sizeof(r));
    memset(machine(GUEST_MFN(9) << 12), 1, 4096);
    CHECK_EQ(native_hypercall(v, __HYPERVISOR_memory_op, arg), 1);
    CHECK_EQ(frames[0], GUEST_MFN(8));
    CHECK_EQ(*(uint64_t *)machine(GUEST_MFN(9) << 12), 0);
    CHECK_EQ(m2p[GUEST_MFN(9)], 9);
    CHECK_EQ(m2p[GUEST_MFN(5)], ~0UL);
    CHECK_EQ(v->pub.request.arg[0], EMU_BALLOON_TAKE);
    /* A continuation's number of the first; more than one is not there. */
    r.nr_extents = 3;
    r.extent_order = 0;
    memcpy(native_guest, &r, sizeof(r));
    arg[0] |= 1 << 6;
    CHECK_EQ(native_hypercall(v, __HYPERVISOR_memory_op, arg), 2);
    CHECK_EQ(frames[1], GUEST_MFN(5));
    arg[0] |= 9 << 6;
    CHECK_EQ(native_hypercall(v, __HYPERVISOR_memory_op, arg), 9);
}

TEST(unknown_numbers)
{
    struct vcpu *v = native_start();
    uint64_t arg[5] = {0};

    CHECK_EQ(native_hypercall(v, 63, arg), -XEN_ENOSYS);
    CHECK_EQ(native_hypercall(v, 64, arg), -XEN_ENOSYS);
    CHECK_EQ(native_hypercall(v, ~0UL, arg), -XEN_ENOSYS);
    CHECK_EQ(native_hypercall(v, 1UL << 32, arg), -XEN_ENOSYS);
    CHECK_EQ(v->pub.counters.hypercall_unknown, 4);
}

TEST(version)
{
    struct vcpu *v = native_start();
    uint64_t arg[5] = {XENVER_capabilities, NATIVE_GUEST_VA};

    CHECK_EQ(native_hypercall(v, __HYPERVISOR_xen_version, arg), 0);
    CHECK(!strncmp((char *)native_guest, "xen-3.0-x86_64", 14));
    arg[1] = NATIVE_GUEST_VA + NATIVE_GUEST_BYTES - 8;
    CHECK_EQ(native_hypercall(v, __HYPERVISOR_xen_version, arg), -XEN_EFAULT);
}
