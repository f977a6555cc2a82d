/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that need ring 0, executed by the guest's kernel at ring 3:
 * Xen carries some out, ignores some, and refuses the rest with #GP.
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "privileged";

#define MSR_EFER 0xc0000080
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_PLATFORM_ID 0x17
#define MSR_UCODE_REV 0x8b
#define MSR_MISC_ENABLE 0x1a0
#define MSR_DEBUGCTL 0x1d9
#define MSR_HWCR 0xc0010015
#define CR0_PE 0x1UL
#define CR0_TS 0x8UL
#define CR0_PG 0x80000000UL
#define CR4_PAE 0x20UL
#define CR4_TSD 0x4UL

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

/* "Forced emulation": what every PV guest uses to see its own CPUID. */
static struct cpuid xen_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid c = {.eax = leaf, .ecx = subleaf};

    __asm__ volatile("ud2; .ascii \"xen\"; cpuid"
                     : "+a"(c.eax), "=b"(c.ebx), "+c"(c.ecx), "=d"(c.edx));
    return c;
}

static uint64_t rdmsr(uint32_t msr)
{
    uint32_t low = 0, high = 0;

    PROBE_OP("rdmsr", : "=&a"(low), "=&d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static void wrmsr(uint32_t msr, uint64_t value)
{
    PROBE_OP("wrmsr",
             :
             : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

/* It says of the TSC what the clock does. */
static void test_xen_time_leaf(void)
{
    struct cpuid c = xen_cpuid(0x40000003, 0);
    const vcpu_time_info_t *time = &vcpu_info()->time;
    uint64_t mul;

    check(!(c.eax & 5) && !c.ebx && !c.edx, "no TSC is emulated",
          "eax 0x%x, ebx %u, edx %u", c.eax, c.ebx, c.edx);
    /* 10^9 * 2^32 / (kHz * 1000), before the shift. */
    mul = (uint64_t)time->tsc_to_system_mul;
    mul =
        time->tsc_shift < 0 ? mul >> -time->tsc_shift : mul << time->tsc_shift;
    mul = (1000000UL << 32) / mul; /* kHz again */
    check(c.ecx > mul - mul / 1000 && c.ecx < mul + mul / 1000, "TSC's rate",
          "%u kHz, the clock has %lu", c.ecx, mul);
    check_eq("physical rate", xen_cpuid(0x40000003, 2).eax, c.ecx);
    c = xen_cpuid(0x40000003, 1);
    check_eq("scale", c.ecx, time->tsc_to_system_mul);
    check_eq("shift", c.edx, (uint32_t)(int32_t)time->tsc_shift);
}

static void test_cpuid(void)
{
    struct cpuid c = xen_cpuid(0x40000000, 0);
    char name[13] = {0};

    memcpy(name, &c.ebx, 4);
    memcpy(name + 4, &c.ecx, 4);
    memcpy(name + 8, &c.edx, 4);
    check(streq(name, "XenVMMXenVMM"), "Xen's leaves", "read '%s'", name);
    check_eq("number of Xen's leaves", c.eax, 0x40000005);
    c = xen_cpuid(0x40000001, 0);
    check_eq("version agrees with xen_version", c.eax,
             (uint64_t)CALL(xen_version, XENVER_version, 0));
    c = xen_cpuid(0x40000002, 0);
    check(c.eax == 1 && c.ecx == 1, "hypercall page, preserve_ad",
          "eax 0x%x, ecx 0x%x", c.eax, c.ecx);
    test_xen_time_leaf();
    c = xen_cpuid(0x40000004, 0);
    check(!(c.eax | c.ebx | c.ecx | c.edx), "HVM's leaf is empty", "0x%x",
          c.eax);
    c = xen_cpuid(0x40000005, 0);
    check(c.ebx < 64 && maddr_of(image_start) >> c.ebx == 0,
          "bits of machine addresses", "%u", c.ebx);
    c = xen_cpuid(0xb, 0);
    check(!(c.eax | c.ebx | c.ecx | c.edx), "no x2APIC topology", "0x%x",
          c.edx);
    c = xen_cpuid(0, 0);
    check(c.eax >= 1, "basic leaves", "0x%x", c.eax);
    c = xen_cpuid(1, 0);
    check(c.edx & 1U << 25 && c.edx & 1U << 26, "SSE and SSE2", "edx 0x%x",
          c.edx);
    check(!(c.ecx & 1U << 5), "no VMX", "ecx 0x%x", c.ecx);
    check((c.edx & 1U << 12) == 0, "no MTRR", "edx 0x%x", c.edx);
    if (c.ecx & 1U << 26) {
        struct cpuid d = xen_cpuid(0xd, 0);

        check(d.eax & 3, "XSAVE comes with leaf 0xd", "eax 0x%x", d.eax);
    }
    c = xen_cpuid(0x80000001, 0);
    check(c.edx & 1U << 29, "long mode", "edx 0x%x", c.edx);
    check(c.edx & 1U << 11, "SYSCALL", "edx 0x%x", c.edx);
}

static void test_control_registers(void)
{
    uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0;

    PROBE_OP("mov %%cr0, %0", : "=&r"(cr0) :);
    check(!caught.taken && (cr0 & (CR0_PE | CR0_PG)) == (CR0_PE | CR0_PG),
          "mov from cr0", "vector %u, 0x%lx", caught.vector, cr0);
    PROBE_OP("mov %%cr2, %0", : "=&r"(cr2) :);
    check(!caught.taken, "mov from cr2", "vector %u", caught.vector);
    PROBE_OP("mov %%cr3, %0", : "=&r"(cr3) :);
    check(!caught.taken && cr3 >> 12 == mfn_of((void *)start_info->pt_base),
          "mov from cr3 is the root's machine address", "vector %u, 0x%lx",
          caught.vector, cr3);
    PROBE_OP("mov %%cr4, %0", : "=&r"(cr4) :);
    check(!caught.taken && (cr4 & CR4_PAE), "mov from cr4", "vector %u, 0x%lx",
          caught.vector, cr4);
    PROBE_OP("mov %0, %%cr3", : : "r"(cr3));
    check(!caught.taken, "mov to cr3, the same", "vector %u", caught.vector);
    PROBE_OP("mov %0, %%cr4", : : "r"(cr4));
    check(!caught.taken, "mov to cr4, the same", "vector %u", caught.vector);
    PROBE_OP("mov %0, %%cr0", : : "r"(cr0 | CR0_TS));
    check(!caught.taken, "mov to cr0: TS", "vector %u", caught.vector);
    PROBE_OP("mov %%cr0, %0", : "=&r"(cr0) :);
    check(cr0 & CR0_TS, "it is set", "0x%lx", cr0);
    PROBE("clts");
    check(!caught.taken, "clts", "vector %u", caught.vector);
    PROBE_OP("mov %%cr0, %0", : "=&r"(cr0) :);
    check(!(cr0 & CR0_TS), "it is clear", "0x%lx", cr0);
    PROBE_OP("mov %0, %%cr3", : : "r"(0xfffffffUL << 12));
    check_trap("mov to cr3: a page that is not there", X86_GP, 0);
    PROBE_OP("mov %0, %%cr3", : : "r"(0UL));
    check_trap("mov to cr3: Xen's", X86_GP, 0);
    PROBE_OP("mov %0, %%cr3", : : "r"(1UL << 63));
    check_trap("mov to cr3: no address", X86_GP, 0);
    PROBE_OP("mov %%cr3, %0", : "=&r"(cr4) :);
    check_eq("it is what it was", cr4, cr3);
    PROBE_OP("mov %0, %%cr0", : : "r"(cr0 & ~CR0_PG));
    check_trap("mov to cr0: paging stays", X86_GP, 0);
}

static void test_msrs(void)
{
    uint64_t efer = rdmsr(MSR_EFER);
    static uint64_t base_me = 0x5a5a;
    uint64_t got = 0;

    check(!caught.taken && (efer & 0x501) == 0x501, "rdmsr EFER",
          "vector %u, 0x%lx", caught.vector, efer);
    wrmsr(MSR_FS_BASE, (uint64_t)&base_me);
    check(!caught.taken, "wrmsr FS_BASE", "vector %u", caught.vector);
    PROBE_OP("movq %%fs:0, %0", : "=&r"(got) :);
    check(!caught.taken && got == 0x5a5a, "it is used", "vector %u 0x%lx",
          caught.vector, got);
    check_eq("rdmsr FS_BASE", rdmsr(MSR_FS_BASE), (uint64_t)&base_me);
    wrmsr(MSR_FS_BASE, 0);
    wrmsr(MSR_GS_BASE, (uint64_t)&base_me);
    PROBE_OP("movq %%gs:0, %0", : "=&r"(got) :);
    check(!caught.taken && got == 0x5a5a, "wrmsr GS_BASE", "vector %u 0x%lx",
          caught.vector, got);
    check_eq("rdmsr GS_BASE", rdmsr(MSR_GS_BASE), (uint64_t)&base_me);
    wrmsr(MSR_GS_BASE, 0);
    wrmsr(MSR_KERNEL_GS_BASE, 0x1234000);
    check(!caught.taken, "wrmsr KERNEL_GS_BASE", "vector %u", caught.vector);
    check_eq("rdmsr KERNEL_GS_BASE", rdmsr(MSR_KERNEL_GS_BASE), 0x1234000);
    wrmsr(MSR_FS_BASE, 0xdead000000000000);
    check_trap("wrmsr FS_BASE: not canonical", X86_GP, 0);
    check_eq("rdmsr DEBUGCTL", rdmsr(MSR_DEBUGCTL), 0);
    check(!caught.taken, "without a trap", "vector %u", caught.vector);
    rdmsr(0x12345678);
    check_trap("rdmsr of an unknown one", X86_GP, 0);
    wrmsr(0x12345678, 1);
    check_trap("wrmsr of an unknown one", X86_GP, 0);
    wrmsr(MSR_EFER, 0);
    check(!caught.taken || caught.vector == X86_GP, "wrmsr EFER", "vector %u",
          caught.vector);
    check_eq("changes nothing", rdmsr(MSR_EFER) & 0x501, 0x501);
}

/* Those that one vendor's processors have (the list: tests/native/test_msr.c,
 * docs/msr-cpuid.md). */
static void test_msrs_of_vendors(void)
{
    uint32_t name = xen_cpuid(0, 0).ebx;
    bool is_intel = name == 0x756e6547, is_amd = name == 0x68747541;
    uint64_t misc;

    rdmsr(MSR_UCODE_REV);
    check(caught.taken == !(is_intel || is_amd), "rdmsr UCODE_REV", "vector %u",
          caught.vector);
    wrmsr(MSR_UCODE_REV, 0);
    check(caught.taken != is_intel, "wrmsr UCODE_REV", "vector %u",
          caught.vector);
    rdmsr(MSR_PLATFORM_ID);
    check(caught.taken != is_intel, "rdmsr PLATFORM_ID", "vector %u",
          caught.vector);
    rdmsr(MSR_HWCR);
    check(caught.taken != is_amd, "rdmsr HWCR", "vector %u", caught.vector);
    misc = rdmsr(MSR_MISC_ENABLE);
    if (!is_intel) {
        check_trap("rdmsr MISC_ENABLE", X86_GP, 0);
        return;
    }
    check(!caught.taken && (misc & 1), "MISC_ENABLE: fast strings",
          "vector %u, 0x%lx", caught.vector, misc);
    wrmsr(MSR_MISC_ENABLE, misc & ~1UL);
    check(!caught.taken, "wrmsr MISC_ENABLE", "vector %u", caught.vector);
    check_eq("changes nothing", rdmsr(MSR_MISC_ENABLE), misc);
}

/* The page that a guest calls through, where it wants it. */
static void test_hypercall_page(void)
{
    static uint8_t page[PAGE_SIZE] PAGE_ALIGNED;
    struct cpuid c = xen_cpuid(0x40000002, 0);
    int64_t rc = 0;

    check_eq("one hypercall page, by an MSR", c.eax, 1);
    wrmsr(c.ebx, mfn_of(page) << 12);
    check(!caught.taken, "it is written", "vector %u", caught.vector);
    __asm__ volatile("call *%1"
                     : "=a"(rc)
                     : "r"(page + __HYPERVISOR_xen_version * 32),
                       "D"(XENVER_pagesize), "S"(0)
                     : "rcx", "r11", "memory");
    check_eq("and called", (uint64_t)rc, PAGE_SIZE);
    wrmsr(c.ebx, 0);
    check_trap("a page of Xen's", X86_GP, 0);
    wrmsr(c.ebx, mfn_of((void *)start_info->pt_base) << 12);
    check_trap("a page that is a table", X86_GP, 0);
    wrmsr(c.ebx, mfn_of(page) << 12 | 1);
    check_trap("a second page", X86_GP, 0);
}

static void test_io_and_interrupt_flag(void)
{
    struct physdev_set_iopl set = {.iopl = 1};
    uint64_t flags = 0;

    PROBE_OP("inb $0x71, %b0", : "+a"(flags) :);
    check(!caught.taken || caught.vector == X86_GP, "in", "vector %u",
          caught.vector);
    PROBE_OP("outb %%al, $0xe0", : : "a"(0));
    check(!caught.taken || caught.vector == X86_GP,
          "out to a port of emu's own", "vector %u", caught.vector);
    PROBE_OP("outl %%eax, %%dx", : : "a"(2), "d"(0xe0));
    check(!caught.taken || caught.vector == X86_GP, "and as it would do it",
          "vector %u", caught.vector);
    PROBE("cli");
    check_trap("cli at IOPL 0", X86_GP, 0);
    PROBE("sti");
    check_trap("sti at IOPL 0", X86_GP, 0);
    check_rc("set_iopl", CALL(physdev_op, PHYSDEVOP_set_iopl, &set), 0);
    PROBE("cli");
    check(!caught.taken, "cli at IOPL 1 is let through", "vector %u",
          caught.vector);
    __asm__ volatile("pushfq; pop %0" : "=r"(flags));
    check_eq("and does nothing", flags & RFLAGS_IF, RFLAGS_IF);
    PROBE("sti");
    check(!caught.taken, "sti at IOPL 1", "vector %u", caught.vector);
    set.iopl = 0;
    CALL(physdev_op, PHYSDEVOP_set_iopl, &set);
    set.iopl = 4;
    check_rc("IOPL 4", CALL(physdev_op, PHYSDEVOP_set_iopl, &set), -XEN_EINVAL);
    check_rc("set_iopl at a bad pointer",
             CALL(physdev_op, PHYSDEVOP_set_iopl, BAD_POINTER), -XEN_EFAULT);
    __asm__ volatile("pushfq; andq $~0x200, (%%rsp); popfq; pushfq; pop %0"
                     : "=r"(flags)
                     :
                     : "cc");
    check_eq("popf leaves IF set", flags & RFLAGS_IF, RFLAGS_IF);
}

static void test_others(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) table = {.limit = 0};
    uint64_t cr8;
    uint32_t low, high;

    PROBE("wbinvd");
    check(!caught.taken, "wbinvd", "vector %u", caught.vector);
    PROBE_OP("invlpg (%0)", : : "r"(image_start));
    check_trap("invlpg", X86_GP, 0);
    PROBE("invd");
    /* QEMU's processor does not look at the privilege level first. */
    check(caught.taken ? caught.vector == X86_GP : !software_kvm(), "invd",
          "vector %u", caught.vector);
    PROBE("hlt");
    check_trap("hlt", X86_GP, 0);
    PROBE_OP("rdpmc", : "=&a"(low), "=&d"(high) : "c"(0));
    check_trap("rdpmc", X86_GP, 0);
    PROBE_OP("lmsw %w0", : : "r"(1));
    check_trap("lmsw", X86_GP, 0);
    PROBE_OP("lldt %w0", : : "r"(0));
    check_trap("lldt", X86_GP, 0);
    PROBE_OP("mov %0, %%cr8", : : "r"(0UL));
    check_trap("mov to cr8", X86_GP, 0);
    PROBE_OP("mov %%cr1, %0", : "=&r"(cr8) :);
    check(caught.taken && (caught.vector == X86_GP || caught.vector == X86_UD),
          "mov from cr1", "vector %u", caught.vector);
    PROBE_OP("monitor", : : "a"(image_start), "c"(0), "d"(0));
    check(caught.taken && (caught.vector == X86_GP || caught.vector == X86_UD),
          "monitor", "vector %u", caught.vector);
    PROBE("sysexitl");
    check(caught.taken && (caught.vector == X86_GP || caught.vector == X86_UD),
          "sysexit", "vector %u", caught.vector);
    PROBE_OP("lgdt %0", : : "m"(table));
    check_trap("lgdt", X86_GP, 0);
    PROBE_OP("lidt %0", : : "m"(table));
    check_trap("lidt", X86_GP, 0);
    PROBE_OP("ltr %w0", : : "r"(0xe040));
    check_trap("ltr", X86_GP, 0);
    PROBE("swapgs");
    check_trap("swapgs", X86_GP, 0);
    PROBE("sysretq");
    check_trap("sysret", X86_GP, 0);
    PROBE_OP("mov %%cr8, %0", : "=&r"(cr8) :);
    check(caught.taken && (caught.vector == X86_GP || caught.vector == X86_UD),
          "mov from cr8", "vector %u", caught.vector);
}

static uint8_t xsave_area[4 * PAGE_SIZE] PAGE_ALIGNED;

static void set_xcr0(uint32_t value)
{
    __asm__ volatile("xsetbv" ::"c"(0), "a"(value), "d"(0));
}

/* How far XSAVE with this mask writes. */
static uint32_t xsave_end(uint32_t mask)
{
    uint32_t end = sizeof(xsave_area);

    memset(xsave_area, 0xa5, sizeof(xsave_area));
    __asm__ volatile("xsave64 %0"
                     : "+m"(xsave_area)
                     : "a"(mask), "d"(mask == ~0U ? mask : 0));
    while (end && xsave_area[end - 1] == 0xa5)
        end--;
    return end;
}

/* An area as large as leaf 0xd says holds what XSAVE writes. */
static void test_xsave_size(void)
{
    struct cpuid c = xen_cpuid(1, 0);
    uint32_t all, end, bytes = 576;
    uint64_t cr4;

    if (!(c.ecx & 1U << 26)) {
        skip("XSAVE's area", "no XSAVE for this guest");
        return;
    }
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr4 | 1UL << 18)); /* OSXSAVE */
    /* As Linux before 5.8: it saves with a mask of ones. */
    all = xen_cpuid(0xd, 0).eax;
    set_xcr0(all);
    c = xen_cpuid(0xd, 0);
    end = xsave_end(~0U);
    check(end <= c.ebx && c.ebx <= c.ecx, "all that XSAVE writes has room",
          "%u, leaf 0xd says %u and %u", end, c.ebx, c.ecx);
    /* As later: the mask is what it has enabled, and so is the size. */
    xen_cpuid(0xd, 1);
    set_xcr0(all);
    for (uint32_t i = 2; i < 32; i++) {
        c = xen_cpuid(0xd, i);
        if (all >> i & 1 && c.eax + c.ebx > bytes)
            bytes = c.eax + c.ebx;
    }
    check_eq("what XCR0 enables", xen_cpuid(0xd, 0).ebx, bytes);
    end = xsave_end(all);
    check(end <= bytes, "it has room", "%u of %u", end, bytes);
    set_xcr0(3);
    check_eq("less of it", xen_cpuid(0xd, 0).ebx, 576);
    check(xsave_end(3) <= 576, "it has room as well", "%u", xsave_end(3));
    set_xcr0(all);
}

static void test_single_step(void)
{
    uint64_t cr0 = 0;

    /* The instruction that is emulated is stepped like any other. */
    PROBE_OP("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tmov %%cr0, %0",
             : "=&r"(cr0)
             :);
    check(caught.taken && caught.vector == X86_DB && caught.rip == probe_end,
          "a single step over mov from cr0", "vector %u at +%lu", caught.vector,
          caught.rip - probe_rip);
}

void guest_main(void)
{
    test_cpuid();
    test_control_registers();
    test_msrs();
    test_msrs_of_vendors();
    test_hypercall_page();
    test_io_and_interrupt_flag();
    test_others();
    test_xsave_size();
    test_single_step();
}
