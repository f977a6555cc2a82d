/* SPDX-License-Identifier: GPL-2.0-or-later */
/* emu's C on the host: its machine, its vCPU, its guest. */
#ifndef TESTS_NATIVE_EMU_NATIVE_H
#define TESTS_NATIVE_EMU_NATIVE_H

#include <setjmp.h>

#include "emu/emu.h"
#include "emu/privileged.h"

/* Guest virtual memory is one stretch; all else is not mapped. */
#define NATIVE_GUEST_VA 0x10000000UL
#define NATIVE_GUEST_BYTES 0x10000UL
extern unsigned char native_guest[NATIVE_GUEST_BYTES];

/* A guest page's machine frame; n from 0. */
#define GUEST_MFN(n) ((uint64_t)(NATIVE_GUEST_GPA >> 12) + (n))
#define GUEST_NR_PAGES ((NATIVE_MACHINE_BYTES - NATIVE_GUEST_GPA) >> 12)

/* Everything as at a domain's start; the root is guest page 0. */
struct vcpu *native_start(void);

/* What crash_domain() said, or NULL; it comes back to native_call(). */
extern const char *native_crash;
extern jmp_buf native_back;

/* The last exception that emu gave the guest; taken: since native_start(). */
struct native_trap {
    unsigned int taken, vector;
    uint64_t error_code, cr2;
};
extern struct native_trap native_trap;

/* Requests that emu would have made of the VM process. */
extern uint32_t native_last_request;
extern int64_t native_result; /* what each is answered */

/* hypercall(), or INT64_MIN when it crashed the domain. */
int64_t native_hypercall(struct vcpu *v, uint64_t nr, const uint64_t arg[5]);

#endif
