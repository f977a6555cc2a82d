/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes and offsets that both sides of the boundary rely on. */
#include <stddef.h>
#include <stdint.h>
#include <xen/xen.h>

#include "abi/emu.h"
#include "abi/layout.h"
#include "abi/wire.h"

#define AT(type, field, offset) \
    _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)
#define SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type)

SIZE(emu_frame, 176);
AT(emu_frame, rip, 136);
SIZE(emu_trace, 64);
SIZE(emu_counters, 920);
SIZE(emu_request, 752);
SIZE(emu_vcpu, 1728);
AT(emu_vcpu, counters, 56);
AT(emu_vcpu, request, 976);
SIZE(emu_pending, 576);
SIZE(emu_clock, 40);
SIZE(emu_console, 16);
SIZE(emu_cpuid, 32);
AT(emu_shared, guest_mfn, 32);
AT(emu_shared, start_rip, 64);
AT(emu_shared, handle, 104);
AT(emu_shared, clock, 144);
AT(emu_shared, console, 184);
AT(emu_shared, cpuid, 200);
SIZE(emu_shared, 200 + 32 * EMU_MAX_CPUID);

_Static_assert(sizeof(struct emu_shared) <= EMU_SHARED_BYTES, "shared pages");
_Static_assert(sizeof(struct emu_vcpu) <= EMU_VCPU_TRACE_OFFSET, "vCPU head");
_Static_assert(EMU_VCPU_TRACE_OFFSET +
                       EMU_TRACE_ENTRIES * sizeof(struct emu_trace) <=
                   EMU_VCPU_PRIVATE_OFFSET,
               "flight recorder");
_Static_assert(EMU_VCPU_GPA + EMU_MAX_VCPUS * EMU_VCPU_BYTES == M2P_GPA,
               "vCPU blocks end where the M2P begins");
_Static_assert(EMU_IMAGE_GPA + EMU_IMAGE_BYTES == EMU_SHARED_GPA, "image");

/* Nothing is padded: a message is the sum of its fields. */
SIZE(evtchnd_domain, 48);
SIZE(evtchnd_request, 96);
AT(evtchnd_request, value, 32);
AT(evtchnd_request, domain, 48);
SIZE(evtchnd_reply, 112);
AT(evtchnd_reply, page_id, 48);
AT(evtchnd_reply, domain, 64);
AT(evtchnd_page, selector, 64);
AT(evtchnd_page, pending, 0x1000);
AT(evtchnd_page, mask, 0x5000);
SIZE(evtchnd_page, 0x9000);
_Static_assert(EVTCHND_GUEST_PORTS == EMU_NR_EVTCHN, "ports of a guest");

/* What has names of its own here is Xen's. */
_Static_assert(EVTCHND_NR_VIRQS == NR_VIRQS, "VIRQs");
_Static_assert(EVTCHND_SELF == DOMID_SELF, "DOMID_SELF");
