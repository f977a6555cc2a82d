/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The library under every test guest: a PV kernel small enough to be read
 * whole. A guest defines `guest_name` and `guest_main()`; the library starts
 * it, catches its traps, prints and ends.
 */
#ifndef TESTS_GUESTS_GUEST_H
#define TESTS_GUESTS_GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/io/console.h>
#include <xen/memory.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

#include "tests/guests/lib/flavour.h"

#define PAGE_SIZE 4096UL
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define barrier() __asm__ volatile("" ::: "memory")
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define PAGE_ALIGNED __attribute__((aligned(4096)))

/* --- what a guest offers --- */

extern const char guest_name[];
void guest_main(void);

/* --- start of day (start.c, head.S) --- */

extern start_info_t *start_info;
extern shared_info_t *shared;
extern uint64_t boot_rsp;
/* VIRT_BASE of the ELF note. */
extern const uint64_t virt_base;
/* Upper-case letter facts of the build, see flavour.h. */
extern const uint8_t has_hypercall_page;
extern uint8_t hypercall_page[PAGE_SIZE], trap_stubs[], user_page_text[];
extern uint8_t image_start[], image_end[];

/* True if word (as in "kvm=software") stands on the command line. */
bool cmdline_has(const char *word);
/* On this KVM ring 0 is interpreted and ring 3 is the host's (kind 2). */
bool software_kvm(void);

/* --- hypercalls (head.S) --- */

int64_t hypercall(uint64_t nr, uint64_t a1, uint64_t a2, uint64_t a3,
                  uint64_t a4, uint64_t a5);
/* Always with the `syscall` instruction, never through the page. */
int64_t hypercall_syscall(uint64_t nr, uint64_t a1, uint64_t a2, uint64_t a3,
                          uint64_t a4, uint64_t a5);

#define H_ARG(x) ((uint64_t)(x))
#define H_PICK(_0, _1, _2, _3, _4, _5, n, ...) n
#define H0(nr) hypercall(nr, 0, 0, 0, 0, 0)
#define H1(nr, a) hypercall(nr, H_ARG(a), 0, 0, 0, 0)
#define H2(nr, a, b) hypercall(nr, H_ARG(a), H_ARG(b), 0, 0, 0)
#define H3(nr, a, b, c) hypercall(nr, H_ARG(a), H_ARG(b), H_ARG(c), 0, 0)
#define H4(nr, a, b, c, d) \
    hypercall(nr, H_ARG(a), H_ARG(b), H_ARG(c), H_ARG(d), 0)
/* CALL(mmu_update, req, 1, 0, DOMID_SELF) */
#define CALL(name, ...)                              \
    H_PICK(0, ##__VA_ARGS__, C5, C4, C3, C2, C1, C0) \
    (__HYPERVISOR_##name, ##__VA_ARGS__)
#define C0(nr) H0(nr)
#define C1(nr, a) H1(nr, a)
#define C2(nr, a, b) H2(nr, a, b)
#define C3(nr, a, b, c) H3(nr, a, b, c)
#define C4(nr, a, b, c, d) H4(nr, a, b, c, d)
#define C5(nr, a, b, c, d, e) \
    hypercall(nr, H_ARG(a), H_ARG(b), H_ARG(c), H_ARG(d), H_ARG(e))

/* An address that no guest mapping covers, canonical and not Xen's. */
#define BAD_POINTER ((void *)0x00005ead00000000)
/* One that lies in Xen's hole. */
#define XEN_POINTER ((void *)0xffff818000000000)

/* --- traps (trap.c, head.S) --- */

#define X86_DE 0
#define X86_DB 1
#define X86_BP 3
#define X86_OF 4
#define X86_BR 5
#define X86_UD 6
#define X86_NM 7
#define X86_DF 8
#define X86_TS 10
#define X86_NP 11
#define X86_SS 12
#define X86_GP 13
#define X86_PF 14
#define X86_MF 16
#define X86_AC 17
#define X86_XM 19
/* Entries that are no vectors. */
#define ENTRY_EVENT 256
#define ENTRY_SYSCALL 257
#define ENTRY_FAILSAFE 258
#define ENTRY_SYSCALL32 259
#define ENTRY_SYSENTER 260
#define NR_ENTRIES 261

#define PF_P 0x1
#define PF_W 0x2
#define PF_U 0x4
#define PF_I 0x10

#define RFLAGS_CF 0x1UL
#define RFLAGS_TF 0x100UL
#define RFLAGS_IF 0x200UL
#define RFLAGS_DF 0x400UL
#define RFLAGS_IOPL 0x3000UL
#define RFLAGS_NT 0x4000UL
#define RFLAGS_AC 0x40000UL

/* As head.S leaves it on the stack. */
struct regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
    uint64_t rax, rcx, rdx, rsi, rdi;
    uint64_t entry; /* vector or ENTRY_* */
    uint64_t error;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* What a caught trap looked like. */
struct caught {
    bool taken;
    unsigned int vector;
    uint64_t error, rip, rflags, rsp, cr2;
    uint16_t cs, ss;
    uint8_t saved_mask;   /* bits 32-39 of the cs word */
    uint8_t handler_mask; /* evtchn_upcall_mask inside the handler */
    uint64_t handler_rsp; /* right after the frame was pushed */
    struct regs regs;
};

extern struct caught caught;
/* Where the instruction of the last caught PROBE() begins and ends. */
extern uint64_t probe_rip, probe_end;
/* Set: sees each trap first; true: handled, go on with *regs. */
extern bool (*trap_hook)(struct regs *regs);
extern trap_info_t trap_table[];

void traps_init(void);
/* Set one gate: TI_GET_DPL and TI_GET_IF as given. */
void trap_gate(unsigned int vector, unsigned int dpl, bool mask_events);

/*
 * Run insn; a trap on or right after it is recorded in `caught` and execution
 * goes on behind it. PROBE_OP takes operands from their first colon:
 * PROBE_OP("div %0", : : "r"(x)). Flags are lost.
 */
#define PROBE(insn) PROBE_OP(insn, : :)
#define PROBE_OP(insn, ...)                                \
    do {                                                   \
        caught.taken = false;                              \
        __asm__ volatile("7:\t" insn "\n8:\tnop\n\t"       \
                         ".pushsection .probes, \"a\"\n\t" \
                         ".quad 7b, 8b\n\t"                \
                         ".popsection" __VA_ARGS__         \
                         : "cc", "memory");                \
    } while (0)

/* --- user mode (user.c) --- */

#define USER_CODE_VA 0x0000010000000000
#define USER_DATA_VA 0x0000010000100000
#define USER_STACK_VA 0x0000010000200000
#define USER_STACK_TOP (USER_STACK_VA + PAGE_SIZE - 8)
/* In %rax of a `syscall`: end user mode with result %rdi. */
#define USER_EXIT 0x7e57
#define USER __attribute__((section(".user.text"), noinline, used))

extern uint8_t user_data[PAGE_SIZE], user_stack[PAGE_SIZE];
extern uint64_t user_root_mfn, user_l4[512];
/* Flags of the iret into user mode; VGCF_in_syscall or 0. */
extern uint64_t user_iret_flags, user_rflags;
extern bool (*syscall_hook)(struct regs *regs);
extern uint8_t kernel_stack[2 * PAGE_SIZE];

/* Build and install the user root. Once, before user_run. */
void user_init(void);
/*
 * Run fn (a USER function) in user mode. Returns its result when it ends by
 * returning or by USER_EXIT; when it traps, `caught` says how and the
 * result is ~0.
 */
uint64_t user_run(void *fn, uint64_t arg);
/* The address at which user mode sees a USER function. */
uint64_t user_va(const void *fn);

/* --- 32-bit user mode (user32.c) --- */

/* The pages of user text, data and stack, where 32 bits reach. */
#define USER32_CODE_VA 0x40000000U
#define USER32_DATA_VA 0x40001000U
#define USER32_STACK_VA 0x40002000U
#define USER32_STACK_TOP (USER32_STACK_VA + 0xff8U)

/* Code of 32 bits; it ends by a trap, which `caught` has. */
#define USER32(name, code)                                                \
    extern const uint8_t name[];                                          \
    __asm__(".pushsection .user.text, \"ax\"\n\t.globl " #name "\n" #name \
            ":\n\t.code32\n\t" code "\n\t.code64\n\t.popsection")

/* After user_init(). */
void user32_init(void);
uint32_t user32_va(const void *code);
/* Run it with %eax = arg in this code segment until it traps. */
void user32_run_in(uint16_t cs, uint64_t rip, uint64_t arg);
void user32_run(const void *code, uint64_t arg);
extern uint64_t user32_rsp;

/* For trap.c and head.S: leave user_run with this result. */
void user_leave(uint64_t result) __attribute__((noreturn));

/* --- memory (memory.c) --- */

#define PTE_P 0x1UL
#define PTE_RW 0x2UL
#define PTE_US 0x4UL
#define PTE_A 0x20UL
#define PTE_D 0x40UL
#define PTE_NX 0x8000000000000000UL
#define PTE_ADDR 0x000ffffffffff000UL
#define PTE_KERNEL (PTE_P | PTE_RW | PTE_A | PTE_D)
#define PTE_USER (PTE_KERNEL | PTE_US)

void memory_init(void);
extern const uint64_t *m2p;
extern uint64_t m2p_entries;
/* false in a guest that takes it from where it always was. */
extern const bool asks_for_m2p;
uint64_t pfn_of(const void *va);
uint64_t mfn_of(const void *va);
/* Machine address of a byte of the image or the start-of-day area. */
uint64_t maddr_of(const void *va);
void *va_of_mfn(uint64_t mfn);
/* Table entry at level (1: page) that maps va under the kernel's root. */
uint64_t *pte_of(const void *va, int level);
/* Zeroed page out of a fixed pool; never freed. */
void *page_alloc(void);
/* update_va_mapping of a page of ours: writable or not. */
int64_t page_protect(const void *va, bool writable);
int64_t pin(const void *table, unsigned int level);
int64_t unpin(const void *table);
int64_t mmu_write(const uint64_t *entry, uint64_t value, unsigned int type);
int64_t mmuext(unsigned int cmd, uint64_t arg1, uint64_t arg2);

void *memset(void *to, int c, size_t bytes);
void *memcpy(void *to, const void *from, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *s);
bool streq(const char *a, const char *b);
bool starts_with(const char *s, const char *prefix);

/* --- events (event.c) --- */

extern uint32_t event_count[4096], upcalls;
void events_init(void);
void events_enable(void);
void events_disable(void);
int64_t bind_virq(unsigned int virq);
int64_t bind_ipi(void);
int64_t bind_ipi_to(unsigned int vcpu);
int64_t evtchn_send(evtchn_port_t port);
int64_t evtchn_close(evtchn_port_t port);
void evtchn_mask(evtchn_port_t port);
int64_t evtchn_unmask(evtchn_port_t port);
bool evtchn_pending(evtchn_port_t port);
void evtchn_clear(evtchn_port_t port);
/* Wait (blocked) until event_count[port] reaches count or ns have gone. */
bool wait_for_count(evtchn_port_t port, uint32_t count, uint64_t ns);
uint64_t system_time_ns(void);
uint64_t rdtsc(void);
vcpu_info_t *vcpu_info(void);
void use_vcpu_info(vcpu_info_t *info);

/* --- more vCPUs (smp.c) --- */

#define MAX_VCPUS 32

/* Known by the stack, whose registers are all a test's to change. */
unsigned int this_vcpu(void);
/* VCPUOP_initialise: it will run main(arg), which must not return, with
 * events off and %fs and %gs at `bases`. vcpu_change, if set, has the last
 * word about its context. */
extern void (*vcpu_change)(struct vcpu_guest_context *context);
int64_t vcpu_initialise(unsigned int vcpu, void (*main)(uint64_t arg),
                        uint64_t arg, const void *bases);
extern struct vcpu_guest_context vcpu_context;

/* --- console and report (console.c, report.c) --- */

void console_init(void);
void console_write(const char *text, size_t length);
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
size_t format_text(char *out, size_t size, const char *format, va_list args);

/* One named check: prints PASS or FAIL with the numbers, and counts. */
void check(bool ok, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void check_eq(const char *name, uint64_t got, uint64_t want);
void check_rc(const char *name, int64_t got, int64_t want);
/* `caught` holds vector with this error code at probe_rip. */
void check_trap(const char *name, unsigned int vector, uint64_t error);
void skip(const char *name, const char *why);
/* Print the verdict line; nothing is printed after it. */
void verdict(void);
void shutdown(unsigned int reason) __attribute__((noreturn));
void panic(const char *why) __attribute__((noreturn));

#endif
