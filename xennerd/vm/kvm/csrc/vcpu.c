/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xennerd/vm/kvm/csrc/vcpu.h"

#include <asm/hwcap2.h>
#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "abi/emu.h"

#define NSEC_PER_SEC 1000000000ULL

#define MSI_ADDRESS 0xfee00000 /* SDM vol 3, 11.11.1: to APIC id 0 */

struct vcpu_loop {
    int fd;
    int run_bytes;
    struct kvm_run *run;
    atomic_int tid; /* of the thread inside vcpu_run, else 0 */
    atomic_bool kicked;
    uint64_t exits;
};

static int kick_signal(void)
{
    return SIGRTMIN + 3;
}

static void on_kick(int signal)
{
    (void)signal; /* KVM_RUN returns EINTR; that is all */
}

int vcpu_signals_init(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_kick;
    return sigaction(kick_signal(), &action, NULL) ? -errno : 0;
}

int vm_set_tss_address(int vm_fd, uint64_t address)
{
    return ioctl(vm_fd, KVM_SET_TSS_ADDR, address) ? -errno : 0;
}

int vm_route_msi(int vm_fd, uint32_t gsi, uint32_t vector)
{
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry entry;
    } table;

    memset(&table, 0, sizeof(table));
    table.head.nr = 1;
    table.entry.gsi = gsi;
    table.entry.type = KVM_IRQ_ROUTING_MSI;
    table.entry.u.msi.address_lo = MSI_ADDRESS;
    table.entry.u.msi.data = vector;
    return ioctl(vm_fd, KVM_SET_GSI_ROUTING, &table) ? -errno : 0;
}

void vcpu_name_thread(const char *name)
{
    prctl(PR_SET_NAME, name);
}

struct vcpu_loop *vcpu_new(int vcpu_fd, int run_bytes)
{
    struct vcpu_loop *v = calloc(1, sizeof(*v));

    if (!v)
        return NULL;
    v->fd = vcpu_fd;
    v->run_bytes = run_bytes;
    v->run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                  vcpu_fd, 0);
    if (v->run == MAP_FAILED) {
        free(v);
        return NULL;
    }
    return v;
}

void vcpu_free(struct vcpu_loop *v)
{
    munmap(v->run, (size_t)v->run_bytes);
    free(v);
}

int vcpu_set_start(struct vcpu_loop *v, const struct vcpu_start *start)
{
    struct kvm_segment code = {
        .limit = ~0U,
        .selector = EMU_CS,
        .type = 11,
        .present = 1,
        .s = 1,
        .l = 1,
        .g = 1,
    };
    struct kvm_segment data = {
        .limit = ~0U,
        .selector = EMU_DS,
        .type = 3,
        .present = 1,
        .s = 1,
        .db = 1,
        .g = 1,
    };
    struct kvm_segment tss = {.limit = 0x67, .type = 11, .present = 1};
    struct kvm_regs regs = {
        .rip = start->rip,
        .rsp = start->rsp,
        .rdi = start->rdi,
        .rflags = 2,
    };
    /* All but the first would wait for INIT and SIPI. */
    struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
    struct kvm_sregs sregs;

    if (ioctl(v->fd, KVM_GET_SREGS, &sregs))
        return -errno;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.tr = tss;
    sregs.gdt.base = sregs.gdt.limit = 0;
    sregs.idt.base = sregs.idt.limit = 0;
    sregs.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
    sregs.cr3 = start->cr3;
    sregs.cr4 = 0x620;  /* PAE OSFXSR OSXMMEXCPT; emu adds what it uses */
    sregs.efer = 0xd01; /* NXE LMA LME SCE */
    sregs.apic_base = start->apic_base;
    if (ioctl(v->fd, KVM_SET_SREGS, &sregs) ||
        ioctl(v->fd, KVM_SET_REGS, &regs) ||
        ioctl(v->fd, KVM_SET_MP_STATE, &runnable))
        return -errno;
    return 0;
}

int vcpu_get_registers(struct vcpu_loop *v, struct vcpu_registers *out)
{
    struct kvm_regs r;
    struct kvm_sregs s;

    if (ioctl(v->fd, KVM_GET_REGS, &r) || ioctl(v->fd, KVM_GET_SREGS, &s))
        return -errno;
    *out = (struct vcpu_registers){
        .rax = r.rax,
        .rbx = r.rbx,
        .rcx = r.rcx,
        .rdx = r.rdx,
        .rsi = r.rsi,
        .rdi = r.rdi,
        .rsp = r.rsp,
        .rbp = r.rbp,
        .r8 = r.r8,
        .r9 = r.r9,
        .r10 = r.r10,
        .r11 = r.r11,
        .r12 = r.r12,
        .r13 = r.r13,
        .r14 = r.r14,
        .r15 = r.r15,
        .rip = r.rip,
        .rflags = r.rflags,
        .cr2 = s.cr2,
        .cr3 = s.cr3,
        .cs = s.cs.selector,
        .ss = s.ss.selector,
        .ds = s.ds.selector,
        .es = s.es.selector,
        .fs = s.fs.selector,
        .gs = s.gs.selector,
        .fs_base = s.fs.base,
        .gs_base = s.gs.base,
    };
    return 0;
}

/* True if Python must hear of this exit. */
static int look_at_exit(struct vcpu_loop *v, struct vcpu_exit *out)
{
    struct kvm_run *run = v->run;

    out->kvm_reason = run->exit_reason;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        if (run->io.direction == KVM_EXIT_IO_OUT && run->io.size == 4 &&
            run->io.port == EMU_PORT_REQUEST) {
            memcpy(&out->request, (char *)run + run->io.data_offset, 4);
            out->why = VCPU_EXIT_REQUEST;
            return 1;
        }
        /* A notification that no eventfd waits for, or a stray access. */
        return 0;
    case KVM_EXIT_INTR:
        return 0;
    case KVM_EXIT_SHUTDOWN:
        out->why = VCPU_EXIT_TRIPLE_FAULT;
        return 1;
    case KVM_EXIT_INTERNAL_ERROR:
        out->why = VCPU_EXIT_INTERNAL_ERROR;
        out->request = run->internal.suberror;
        out->nr_data = run->internal.ndata < 16 ? run->internal.ndata : 16;
        for (uint32_t i = 0; i < out->nr_data; i++)
            out->data[i] = run->internal.data[i];
        return 1;
    case KVM_EXIT_FAIL_ENTRY:
        out->why = VCPU_EXIT_FAIL_ENTRY;
        out->data[0] = run->fail_entry.hardware_entry_failure_reason;
        out->nr_data = 1;
        return 1;
    default:
        out->why = VCPU_EXIT_OTHER;
        return 1;
    }
}

int vcpu_run(struct vcpu_loop *v, struct vcpu_exit *out)
{
    int rc = 0;

    memset(out, 0, sizeof(*out));
    atomic_store(&v->tid, (int)syscall(SYS_gettid));
    for (;;) {
        if (atomic_exchange(&v->kicked, 0)) {
            /* Finish the instruction that the last exit left open. */
            v->run->immediate_exit = 1;
            ioctl(v->fd, KVM_RUN, 0);
            v->run->immediate_exit = 0;
            out->why = VCPU_EXIT_KICKED;
            break;
        }
        rc = ioctl(v->fd, KVM_RUN, 0) ? -errno : 0;
        v->run->immediate_exit = 0;
        if (rc == -EINTR || rc == -EAGAIN) {
            rc = 0;
            continue;
        }
        if (rc)
            break;
        v->exits++;
        if (look_at_exit(v, out))
            break;
    }
    atomic_store(&v->tid, 0);
    return rc;
}

void vcpu_kick(struct vcpu_loop *v)
{
    int tid;

    /* kicked before immediate_exit before the signal: wherever the loop is,
     * one of the three stops it. */
    atomic_store(&v->kicked, 1);
    v->run->immediate_exit = 1;
    tid = atomic_load(&v->tid);
    if (tid)
        syscall(SYS_tgkill, getpid(), tid, kick_signal());
}

int64_t vcpu_tsc_offset(struct vcpu_loop *v)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry tsc;
    } msrs;
    uint64_t before, after;

    memset(&msrs, 0, sizeof(msrs));
    msrs.head.nmsrs = 1;
    msrs.tsc.index = 0x10; /* IA32_TIME_STAMP_COUNTER */
    before = __builtin_ia32_rdtsc();
    if (ioctl(v->fd, KVM_GET_MSRS, &msrs) != 1)
        return 0;
    after = __builtin_ia32_rdtsc();
    return (int64_t)(msrs.tsc.data - (before + (after - before) / 2));
}

uint64_t vcpu_exits(const struct vcpu_loop *v)
{
    return v->exits;
}

void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *out4)
{
    __cpuid_count(leaf, subleaf, out4[0], out4[1], out4[2], out4[3]);
}

uint64_t host_xcr0(void)
{
    uint32_t a, b, c, d, lo, hi;

    __cpuid_count(1, 0, a, b, c, d);
    if (!(c & bit_OSXSAVE))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

int host_null_clears_base(void)
{
    uint64_t own, base = 1;
    uint16_t selector;

    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
        return 0;
    /* No program of 64 bits has its thread's data there. */
    __asm__ volatile(
        "mov %%gs, %[selector]\n\t"
        "rdgsbase %[own]\n\t"
        "wrgsbase %[base]\n\t"
        "mov %[nul], %%gs\n\t"
        "rdgsbase %[base]\n\t"
        "mov %[selector], %%gs\n\t"
        "wrgsbase %[own]"
        : [selector] "=&r"(selector), [own] "=&r"(own), [base] "+r"(base)
        : [nul] "r"((uint16_t)0)
        : "memory");
    return base == 0;
}

static uint64_t ns(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * NSEC_PER_SEC + (uint64_t)t->tv_nsec;
}

void host_clock(uint64_t *tsc, uint64_t *realtime_ns, uint64_t *monotonic_ns)
{
    uint64_t best = ~0ULL;

    /* The reading with the shortest window is the one nobody interrupted. */
    for (int i = 0; i < 5; i++) {
        struct timespec real, mono;
        uint64_t before = __builtin_ia32_rdtsc(), after;

        clock_gettime(CLOCK_REALTIME, &real);
        clock_gettime(CLOCK_MONOTONIC, &mono);
        after = __builtin_ia32_rdtsc();
        if (after - before < best) {
            best = after - before;
            *tsc = before + (after - before) / 2;
            *realtime_ns = ns(&real);
            *monotonic_ns = ns(&mono);
        }
    }
}
