/* SPDX-License-Identifier: GPL-2.0-or-later */
/* I/O ports. */
#include "emu/privop.h"

/*
 * There are none; reads float high, as on a bare bus. Only the
 * PIT's read as zero: a kernel that tries to calibrate with it sees at once
 * that it does not count, instead of after 50,000 reads.
 */
static uint32_t port_value(uint16_t port)
{
    return (port >= 0x40 && port <= 0x43) || port == 0x61 ? 0 : 0xffffffff;
}

bool io(struct vcpu *v, struct emu_frame *f, unsigned int bytes, bool in,
        uint16_t port)
{
    if (v->iopl < (v->pub.in_kernel ? 1U : 3U))
        return false;
    v->pub.counters.privop[EMU_PRIVOP_IO]++;
    trace(v, EMU_TRACE_PRIVOP, EMU_PRIVOP_IO, f->rip, port, in);
    if (in) {
        uint64_t mask = bytes == 4 ? ~0UL : (1UL << bytes * 8) - 1;

        f->rax = (f->rax & ~mask) | (port_value(port) & (uint32_t)mask);
    }
    return true;
}
