/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The clock that the VM process keeps, and what the guest reads of it. */
#include "emu/emu.h"

/* A consistent copy of the live clock. */
static void read_clock(struct emu_clock *c)
{
    const struct emu_clock *from = &shared->clock;
    uint32_t version;

    do {
        version = READ_ONCE(from->version);
        barrier();
        memcpy(c, from, sizeof(*c));
        barrier();
    } while (version & 1 || version != READ_ONCE(from->version));
}

static void fill_time(vcpu_time_info_t *t, const struct emu_clock *c)
{
    uint32_t version = (t->version | 1) + 1;

    WRITE_ONCE(t->version, version - 1);
    barrier();
    t->tsc_timestamp = c->tsc_timestamp;
    t->system_time = c->system_time_ns;
    t->tsc_to_system_mul = c->tsc_to_system_mul;
    t->tsc_shift = (int8_t)c->tsc_shift;
    t->flags = XEN_PVCLOCK_TSC_STABLE_BIT;
    barrier();
    WRITE_ONCE(t->version, version);
}

static void update_wallclock(const struct emu_clock *c)
{
    if (shinfo->wc_sec == (uint32_t)c->wc_sec && shinfo->wc_nsec == c->wc_nsec)
        return;
    shinfo->wc_version |= 1;
    barrier();
    shinfo->wc_sec = (uint32_t)c->wc_sec;
    shinfo->wc_sec_hi = (uint32_t)(c->wc_sec >> 32);
    shinfo->wc_nsec = c->wc_nsec;
    barrier();
    shinfo->wc_version++;
}

/* Into a registered area, the clock as it is: 0 or -EFAULT. */
int copy_time(uint64_t va)
{
    struct vcpu *v = this_vcpu();
    vcpu_time_info_t t;

    if (copy_from_kernel(v, &t, va, sizeof(t)))
        return -XEN_EFAULT;
    fill_time(&t, &v->clock);
    return copy_to_kernel(v, va, &t, sizeof(t));
}

/* Copy the clock to the guest if the VM process has moved it. */
void update_time(struct vcpu *v, bool force)
{
    if (!force && v->clock.version == READ_ONCE(shared->clock.version))
        return;
    read_clock(&v->clock);
    fill_time(&v->info->time, &v->clock);
    if (v->time_va)
        copy_time(v->time_va);
    if (v->pub.id == 0)
        update_wallclock(&v->clock);
}
