/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vCPU loop: KVM_RUN until something happens that Python must know, and
 * the few host instructions that Python cannot do. Read by cffi as well.
 *
 * A vcpu_loop belongs to the thread that runs it; only vcpu_kick may be
 * called from others. Functions return 0 or a negative errno.
 */
#ifndef VCPU_H
#define VCPU_H

#ifndef ABI_NO_INCLUDES
#include <stdint.h>
#endif

#define VCPU_EXIT_KICKED 1
#define VCPU_EXIT_REQUEST 2
#define VCPU_EXIT_TRIPLE_FAULT 3
#define VCPU_EXIT_INTERNAL_ERROR 4
#define VCPU_EXIT_FAIL_ENTRY 5
#define VCPU_EXIT_OTHER 6

struct vcpu_exit {
    uint32_t why;        /* VCPU_EXIT_* */
    uint32_t kvm_reason; /* KVM_EXIT_* */
    uint32_t request;    /* REQUEST: EMU_REQUEST_*, as the guest said */
    uint32_t nr_data;    /* INTERNAL_ERROR: words of data that count */
    uint64_t data[16];
};

struct vcpu_start {
    uint64_t rip, rsp, rdi, cr3, apic_base;
};

struct vcpu_registers {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags, cr2, cr3;
    uint64_t cs, ss, ds, es, fs, gs, fs_base, gs_base;
};

struct vcpu_loop;

/* Once per process: the signal that vcpu_kick sends must not end it. */
int vcpu_signals_init(void);
/* KVM_SET_TSS_ADDR: an address that Python's ioctl cannot pass. */
int vm_set_tss_address(int vm_fd, uint64_t address);
/* `gsi` raises `vector` on vCPU 0; replaces all earlier routes. */
int vm_route_msi(int vm_fd, uint32_t gsi, uint32_t vector);
/* What top -H shows for the calling thread: at most 15 bytes. */
void vcpu_name_thread(const char *name);
/* NULL and errno on failure. */
struct vcpu_loop *vcpu_new(int vcpu_fd, int run_bytes);
void vcpu_free(struct vcpu_loop *v);
int vcpu_set_start(struct vcpu_loop *v, const struct vcpu_start *start);
int vcpu_get_registers(struct vcpu_loop *v, struct vcpu_registers *out);
/* Blocks without the GIL. */
int vcpu_run(struct vcpu_loop *v, struct vcpu_exit *out);
/* Make vcpu_run return, now or when it is next called. */
void vcpu_kick(struct vcpu_loop *v);
/* Guest's TSC minus the host's; where ring 3 reads the host's, near 0. */
int64_t vcpu_tsc_offset(struct vcpu_loop *v);
uint64_t vcpu_exits(const struct vcpu_loop *v);

void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *out4);
/* XCR0, or 0 where XSAVE is not enabled. */
uint64_t host_xcr0(void);
/* Does a NUL selector clear its register's base? 0 also where FSGSBASE, by
 * which that can be seen, is not there. */
int host_null_clears_base(void);
/* TSC and CLOCK_REALTIME of one moment, the TSC as the guest reads it. */
void host_clock(uint64_t *tsc, uint64_t *realtime_ns, uint64_t *monotonic_ns);

#endif
