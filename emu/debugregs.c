/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debug registers, as set_debugreg() of Xen's misc-hypercalls.c has them. The
 * hypercall's errors are what `mov` raises: -ENODEV #UD, the others #GP.
 *
 * A breakpoint on I/O ports (CR4.DE) never reaches the processor, as no access
 * to a port does: dr7_io has its bits, and emulation compares.
 *
 * A software KVM runs ring 3 without them, whoever asks it to do otherwise
 * (KVM_SET_GUEST_DEBUG too): breakpoints cannot be enabled there.
 */
#include "emu/emu.h"
#include "emu/privileged.h"

#define DR7_RW_SHIFT 16 /* four bits for each: two kind, two width */
#define DR7_KIND_IO 2

static unsigned int kind(uint64_t dr7, unsigned int nr)
{
    return dr7 >> (DR7_RW_SHIFT + nr * 4) & 3;
}

static uint64_t enable_bits(unsigned int nr)
{
    return 3UL << nr * 2;
}

/* 1, 2, 8, 4: the manual's order (SDM vol 3, 17.2.4). */
static unsigned int width(uint64_t dr7, unsigned int nr)
{
    static const uint8_t bytes[] = {1, 2, 8, 4};

    return bytes[dr7 >> (DR7_RW_SHIFT + nr * 4 + 2) & 3];
}

static void change(struct vcpu *v, unsigned int nr, uint64_t value)
{
    if (v->dr[nr] == value)
        return;
    v->dr[nr] = value;
    /* DR6 is emu's to clear, the guest's own is dr[6]. */
    if (nr != 6 && v == this_vcpu())
        write_dr(nr, value);
}

/* No watchpoints in Xen's hole, nor where no address can be. */
static int set_address(struct vcpu *v, unsigned int nr, uint64_t value)
{
    if (!canonical(value) || in_hole(value))
        return -XEN_EPERM;
    change(v, nr, value);
    return 0;
}

static int set_control(struct vcpu *v, uint64_t value)
{
    uint64_t on_ports = 0;

    value = (value & 0xffff27ff) | DR7_FIXED;
    /* General detect would trap emu's own accesses. */
    if (value & DR7_GD)
        return -XEN_EPERM;
    if (value & DR7_ENABLED && slow_ring0()) {
        struct vcpu *own = this_vcpu(); /* v may be one that does not run yet */

        own->pub.request.arg[0] = EMU_NOTICE_BREAKPOINTS;
        request(own, EMU_REQUEST_NOTICE);
        return -XEN_EPERM;
    }
    for (unsigned int i = 0; i < 4 && value & DR7_ENABLED; i++) {
        if (kind(value, i) != DR7_KIND_IO)
            continue;
        if (!(v->cr4_guest & CR4_DE))
            return -XEN_EPERM;
        on_ports |= value & enable_bits(i);
    }
    v->dr7_io = on_ports;
    change(v, 7, value & ~on_ports);
    return 0;
}

int64_t do_set_debugreg(struct vcpu *v, guest_word nr, guest_word value,
                        guest_word a3, guest_word a4, guest_word a5)
{
    nr = (uint32_t)nr;
    if (nr > 7 || ((nr == 4 || nr == 5) && v->cr4_guest & CR4_DE))
        return -XEN_ENODEV;
    if (nr < 4)
        return set_address(v, (unsigned int)nr, value);
    if (value != (uint32_t)value)
        return -XEN_EINVAL;
    if (nr & 1)
        return set_control(v, value);
    change(v, 6, (value & 0xefff) | DR6_FIXED);
    return 0;
}

/* `mov`. A kernel does not expect #GP of a value that Xen takes: where nothing
 * can be enabled it reads back that nothing is. */
int write_debugreg(struct vcpu *v, uint64_t nr, uint64_t value)
{
    int64_t rc = do_set_debugreg(v, nr, value, 0, 0, 0);

    if (rc == -XEN_EPERM && slow_ring0() && nr > 3)
        rc = do_set_debugreg(v, nr, value & ~(uint64_t)DR7_ENABLED, 0, 0, 0);
    return (int)rc;
}

int read_debugreg(const struct vcpu *v, uint64_t nr, uint64_t *value)
{
    if (nr > 7 || ((nr == 4 || nr == 5) && v->cr4_guest & CR4_DE))
        return -XEN_ENODEV;
    if (nr >= 4)
        nr |= 2;
    *value = v->dr[nr] | (nr == 7 ? v->dr7_io : 0);
    return 0;
}

int64_t do_get_debugreg(struct vcpu *v, guest_word nr, guest_word a2,
                        guest_word a3, guest_word a4, guest_word a5)
{
    uint64_t value;
    int rc = read_debugreg(v, (uint32_t)nr, &value);

    return rc ? rc : (int64_t)value;
}

void init_debugregs(struct vcpu *v)
{
    v->dr[6] = DR6_FIXED;
    v->dr[7] = DR7_FIXED;
}

void load_first_debugregs(struct vcpu *v)
{
    for (unsigned int i = 0; i < 4; i++)
        raw_write_dr(i, v->dr[i]);
    raw_write_dr(7, v->dr[7]);
}

uint32_t port_breakpoints(const struct vcpu *v, unsigned int port,
                          unsigned int bytes)
{
    uint32_t hit = 0;

    for (unsigned int i = 0; i < 4 && v->dr7_io; i++) {
        unsigned int n = width(v->dr[7], i);
        uint64_t first = v->dr[i] & ~(n - 1UL);

        if (v->dr7_io & enable_bits(i) && first < port + bytes &&
            first + n > port)
            hit |= 1U << i;
    }
    return v->cr4_guest & CR4_DE ? hit : 0;
}
