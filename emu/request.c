/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What emu asks of the VM process, the end of the domain included. */
#include "emu/emu.h"
#include "emu/privileged.h"

/* Hand pub.request to the VM process and wait for its answer. */
void request(struct vcpu *v, uint32_t nr)
{
    v->pub.request.nr = nr;
    v->pub.request.result = 0;
    outl(EMU_PORT_REQUEST, nr);
}

static void set_text(struct emu_request *r, const char *text)
{
    uint32_t i = 0;

    for (; text[i] && i < sizeof(r->data) - 1; i++)
        r->data[i] = (uint8_t)text[i];
    r->data[i] = 0;
    r->length = i;
}

static void end(const char *why, uint32_t nr)
{
    struct vcpu *v = this_vcpu();

    set_text(&v->pub.request, why);
    v->pub.request.frame = *guest_frame(v);
    v->pub.request.cr2 = v->fault_cr2;
    v->pub.request.cr3 = v->pub.in_kernel ? v->pub.kernel_cr3 : v->pub.user_cr3;
    for (;;)
        request(v, nr);
}

void crash_domain(const char *why)
{
    end(why, EMU_REQUEST_CRASH);
    __builtin_unreachable();
}

void bug(const char *why)
{
    end(why, EMU_REQUEST_BUG);
    __builtin_unreachable();
}
