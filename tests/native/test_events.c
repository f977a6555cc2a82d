/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Event channels against a model: random operations, the same answers. */
#include "tests/native/emu_native.h"
#include "tests/native/harness.h"

#include <string.h>

#include <xen/io/console.h>

static struct vcpu *vcpu;

static int64_t op(unsigned int cmd, void *arg, size_t bytes)
{
    uint64_t args[5] = {cmd, NATIVE_GUEST_VA};
    int64_t rc;

    memcpy(native_guest, arg, bytes);
    rc = native_hypercall(vcpu, __HYPERVISOR_event_channel_op, args);
    memcpy(arg, native_guest, bytes);
    return rc;
}

static int64_t bind_ipi(void)
{
    struct evtchn_bind_ipi bind = {.vcpu = 0};
    int64_t rc = op(EVTCHNOP_bind_ipi, &bind, sizeof(bind));

    return rc ? rc : (int64_t)bind.port;
}

static int64_t simple(unsigned int cmd, uint32_t port)
{
    return op(cmd, &port, sizeof(port));
}

static bool pending(uint32_t port)
{
    return shinfo->evtchn_pending[port / 64] >> port % 64 & 1;
}

static bool masked(uint32_t port)
{
    return shinfo->evtchn_mask[port / 64] >> port % 64 & 1;
}

/* Open ports and what they must show. */
static struct {
    bool open, pending;
} model[EMU_NR_EVTCHN];

static void step(uint64_t r)
{
    uint32_t port = (uint32_t)(r >> 8) % 40;
    int64_t rc;

    switch (r & 3) {
    case 0:
        rc = bind_ipi();
        CHECK(rc > 0 && rc < EMU_NR_EVTCHN && rc != 2 && !model[rc].open);
        if (rc > 0 && rc < EMU_NR_EVTCHN) {
            model[rc].open = true;
            model[rc].pending = pending((uint32_t)rc);
        }
        break;
    case 1:
        rc = simple(EVTCHNOP_send, port);
        if (port == 2)
            break; /* the console's */
        CHECK_EQ(rc == 0, model[port].open);
        model[port].pending |= model[port].open;
        break;
    case 2:
        if (port == 2)
            break;
        rc = simple(EVTCHNOP_close, port);
        CHECK_EQ(rc == 0, model[port].open);
        model[port].open = false;
        model[port].pending = pending(port);
        break;
    default:
        shinfo->evtchn_mask[port / 64] ^= 1UL << port % 64;
        if (model[port].open && !masked(port) && model[port].pending) {
            vcpu->info->evtchn_upcall_pending = 0;
            vcpu->info->evtchn_pending_sel = 0;
            shinfo->evtchn_mask[port / 64] |= 1UL << port % 64;
            CHECK_EQ(simple(EVTCHNOP_unmask, port), 0);
            CHECK(!masked(port));
            CHECK_EQ(vcpu->info->evtchn_upcall_pending, 1);
        }
    }
    for (port = 1; port < 40; port++)
        if (model[port].open)
            CHECK_EQ(pending(port), model[port].pending);
}

TEST(random_operations)
{
    uint64_t seed = 77;

    vcpu = native_start();
    memset(model, 0, sizeof(model));
    for (unsigned int i = 0; i < 20000; i++)
        step(random64(&seed));
}

TEST(all_ports)
{
    unsigned int n = 0;
    uint64_t arg[5] = {EVTCHNOP_reset, NATIVE_GUEST_VA};
    struct evtchn_reset reset = {.dom = DOMID_SELF};

    vcpu = native_start();
    memcpy(native_guest, &reset, sizeof(reset));
    native_hypercall(vcpu, __HYPERVISOR_event_channel_op, arg);
    while (bind_ipi() > 0)
        n++;
    CHECK(n > 4000 && n < EMU_NR_EVTCHN);
    CHECK_EQ(bind_ipi(), -XEN_ENOSPC);
}

TEST(events_from_outside)
{
    struct emu_pending *p = machine(EMU_PENDING_GPA);

    vcpu = native_start();
    p->bits[0] = 1UL << 2;
    p->selector = 1;
    evtchn_from_outside();
    CHECK(pending(2));
    CHECK_EQ(p->bits[0], 0);
    CHECK_EQ(p->selector, 0);
    CHECK_EQ(vcpu->info->evtchn_upcall_pending, 1);
    /* Bits for ports that nobody has, all at once. */
    memset(p, 0xff, sizeof(*p));
    evtchn_from_outside();
    CHECK_EQ(p->selector, 0);
}

#define CONSOLE 2
#define CONSOLE_GPA (GUEST_MFN(9) << 12)

static unsigned int rings(uint32_t port)
{
    native_cpu.nr_out = 0;
    CHECK_EQ(simple(EVTCHNOP_send, port), 0);
    return native_cpu.nr_out;
}

/* Who serves the console says from how many bytes on it is to be told. */
TEST(a_console_that_is_watched)
{
    struct xencons_interface *page = machine(CONSOLE_GPA);

    vcpu = native_start();
    shared->console.ring_gpa = CONSOLE_GPA;
    CHECK_EQ(rings(CONSOLE), 1);
    shared->console.doorbell_bytes = 1024;
    CHECK_EQ(rings(CONSOLE), 0);
    page->out_cons = 0xffffff00;
    page->out_prod = page->out_cons + 1023;
    CHECK_EQ(rings(CONSOLE), 0);
    page->out_prod++;
    CHECK_EQ(rings(CONSOLE), 1);
    shared->console.doorbell_bytes = 2049;
    page->out_prod = page->out_cons + 2048;
    CHECK_EQ(rings(CONSOLE), 0);
    page->out_prod = page->out_cons - 1; /* nonsense */
    CHECK_EQ(rings(CONSOLE), 1);
    page->out_prod = page->out_cons;
    shared->console.doorbell_bytes = 0;
    CHECK_EQ(rings(CONSOLE), 1);
}

/* Its number is another channel's once it is closed. */
TEST(a_port_that_was_the_console_s)
{
    struct evtchn_alloc_unbound alloc = {.dom = DOMID_SELF, .port = CONSOLE};

    vcpu = native_start();
    shared->flags |= EMU_FLAG_EVTCHND;
    shared->console.ring_gpa = CONSOLE_GPA;
    shared->console.doorbell_bytes = 1024;
    CHECK_EQ(rings(CONSOLE), 0);
    CHECK_EQ(simple(EVTCHNOP_close, CONSOLE), 0);
    CHECK_EQ(op(EVTCHNOP_alloc_unbound, &alloc, sizeof(alloc)), 0);
    CHECK_EQ(rings(CONSOLE), 1);
}
