/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What emu's assembly and its environment do, for the test programs. */
#include "tests/native/emu_native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned char native_machine[NATIVE_MACHINE_BYTES]
    __attribute__((aligned(0x8000)));
unsigned char native_guest[NATIVE_GUEST_BYTES];
struct native_cpu native_cpu;
const char *native_crash;
jmp_buf native_back;
uint32_t native_last_request;
int64_t native_result;
struct native_trap native_trap;

void crash_domain(const char *why)
{
    native_crash = why;
    longjmp(native_back, 1);
}

/* emu's own fault: never right, whatever the guest does. */
void bug(const char *why)
{
    fprintf(stderr, "BUG in emu: %s\n", why);
    abort();
}

void request(struct vcpu *v, uint32_t nr)
{
    native_last_request = nr;
    v->pub.request.nr = nr;
    v->pub.request.result = native_result;
}

void inject_trap(struct vcpu *v, struct emu_frame *f, uint8_t vector,
                 uint64_t error_code)
{
    (void)v, (void)f;
    native_trap.taken++;
    native_trap.vector = vector;
    native_trap.error_code = error_code;
}

void inject_gate(struct vcpu *v, struct emu_frame *f, uint8_t vector, int flags,
                 uint64_t error_code)
{
    (void)flags;
    inject_trap(v, f, vector, error_code);
}

void inject_page_fault(struct vcpu *v, struct emu_frame *f, uint64_t cr2,
                       uint64_t error_code)
{
    native_trap.cr2 = cr2;
    inject_trap(v, f, X86_TRAP_PF, error_code);
}

/* Nothing here will ever wake a vCPU that halts: a stray event does. */
uint64_t ring0_call(uint64_t op, uint64_t a1, uint64_t a2)
{
    struct vcpu *v = this_vcpu();

    (void)a1, (void)a2;
    if (op == RING0_HALT) {
        v->info->evtchn_upcall_pending = 1;
        v->info->evtchn_upcall_mask = 0;
    }
    return 0;
}

static unsigned char *guest_bytes(uint64_t va, uint64_t bytes)
{
    uint64_t offset = va - NATIVE_GUEST_VA;

    if (offset >= NATIVE_GUEST_BYTES || bytes > NATIVE_GUEST_BYTES - offset)
        return NULL;
    return native_guest + offset;
}

int copy_from_guest(void *to, uint64_t va, uint64_t bytes)
{
    const unsigned char *from = guest_bytes(va, bytes);

    if (!from)
        return -XEN_EFAULT;
    memcpy(to, from, bytes);
    return 0;
}

int copy_to_guest(uint64_t va, const void *from, uint64_t bytes)
{
    unsigned char *to = guest_bytes(va, bytes);

    if (!to)
        return -XEN_EFAULT;
    memcpy(to, from, bytes);
    return 0;
}

struct vcpu *native_start(void)
{
    struct vcpu *v = vcpu_by_id(0);

    memset(native_machine, 0, sizeof(native_machine));
    memset(native_guest, 0, sizeof(native_guest));
    memset(&native_cpu, 0, sizeof(native_cpu));
    memset(&emu_machine, 0, sizeof(emu_machine));
    init_machine();
    native_crash = NULL;
    native_result = 0;
    native_trap = (struct native_trap){0};
    shared->magic = EMU_ABI_MAGIC;
    shared->quirks = EMU_QUIRK_SLOW_RING0;
    shared->nr_vcpus = 1;
    shared->guest_mfn = GUEST_MFN(0);
    shared->guest_nr_pages = GUEST_NR_PAGES;
    shared->machine_nr_pages = NATIVE_MACHINE_BYTES >> 12;
    shared->m2p_nr_entries = 0x200000 / sizeof(*m2p);
    shared->console_port = 2;
    shared->xcr0 = 7;
    shared->tsc_khz = 2000000;
    shared->clock.tsc_to_system_mul = 0x80000000;
    shared->clock.tsc_shift = 0;
    memset(m2p, 0xff, shared->m2p_nr_entries * 8);
    for (uint64_t pfn = 0; pfn < GUEST_NR_PAGES; pfn++)
        m2p[GUEST_MFN(pfn)] = pfn;
    v->clock = shared->clock;
    init_debugregs(v);
    v->info = &shinfo->vcpu_info[0];
    v->info->evtchn_upcall_mask = 1;
    v->pub.in_kernel = 1;
    v->pub.state = EMU_VCPU_UP;
    v->pub.kernel_cr3 = GUEST_MFN(0) << 12;
    v->emu_cr3 = v->pub.kernel_cr3;
    page_types[GUEST_MFN(0)] = 4 | EMU_TYPE_PINNED | EMU_TYPE_REF;
    install_emu_slots(v->pub.kernel_cr3, false);
    evtchn_init();
    return v;
}

int64_t native_hypercall(struct vcpu *v, uint64_t nr, const uint64_t arg[5])
{
    native_crash = NULL;
    if (setjmp(native_back))
        return INT64_MIN;
    return hypercall(v, nr, arg[0], arg[1], arg[2], arg[3], arg[4]);
}
