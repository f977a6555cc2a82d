/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Segment bases and selectors, descriptor tables, and the FPU's TS bit. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "segments";

static uint64_t gdt[512] PAGE_ALIGNED, ldt[512] PAGE_ALIGNED;
static uint64_t words[8];

/* A flat data segment of DPL 3 with this base, 4 GiB. */
static uint64_t data_segment(uint32_t base)
{
    return 0x00cff3000000ffffUL | (uint64_t)(base & 0xffffff) << 16 |
           (uint64_t)(base >> 24) << 56;
}

static uint64_t fs_word(void)
{
    uint64_t got = 0;

    PROBE_OP("movq %%fs:0, %0", : "=&r"(got) :);
    return got;
}

static uint64_t gs_word(void)
{
    uint64_t got = 0;

    PROBE_OP("movq %%gs:0, %0", : "=&r"(got) :);
    return got;
}

/* From user space: %gs:0 plus what the kernel asks for. */
USER static uint64_t user_gs(uint64_t arg)
{
    uint64_t got;

    __asm__ volatile("movq %%gs:0, %0" : "=r"(got));
    return got + arg;
}

USER static uint64_t user_fs(uint64_t arg)
{
    uint64_t got;

    __asm__ volatile("movq %%fs:0, %0" : "=r"(got));
    return got + arg;
}

/* Sets the base to arg, makes a system call, and reads through it. */
USER static uint64_t user_wrgsbase(uint64_t arg)
{
    uint64_t rax = 0x55, got;

    __asm__ volatile("wrgsbase %2\n\tsyscall\n\tmovq %%gs:0, %1"
                     : "+a"(rax), "=&r"(got)
                     : "r"(arg)
                     : "rcx", "r11", "memory");
    return got;
}

static bool ignore_hook(struct regs *r)
{
    return r->rax != USER_EXIT;
}

static void test_bases(void)
{
    uint64_t *shared_word = (uint64_t *)user_data;

    words[0] = 0xf5f5;
    words[1] = 0x9696;
    shared_word[0] = 0x1000;
    shared_word[1] = 0x2000;
    check_rc("set FS", CALL(set_segment_base, SEGBASE_FS, &words[0]), 0);
    check_eq("FS is used", fs_word(), 0xf5f5);
    check_rc("set GS kernel",
             CALL(set_segment_base, SEGBASE_GS_KERNEL, &words[1]), 0);
    check_eq("GS is used", gs_word(), 0x9696);
    check_rc("set GS user",
             CALL(set_segment_base, SEGBASE_GS_USER, USER_DATA_VA), 0);
    check_eq("the kernel's is its own", gs_word(), 0x9696);
    check_eq("user space has the other", user_run(user_gs, 1), 0x1001);
    check_eq("and back", gs_word(), 0x9696);
    CALL(set_segment_base, SEGBASE_FS, USER_DATA_VA + 8);
    check_eq("FS is common to both", user_run(user_fs, 1), 0x2001);
    check_rc("FS: not canonical",
             CALL(set_segment_base, SEGBASE_FS, 0xdead000000000000),
             -XEN_EINVAL);
    check_rc("GS kernel: not canonical",
             CALL(set_segment_base, SEGBASE_GS_KERNEL, 0xdead000000000000),
             -XEN_EINVAL);
    check_rc("GS user: not canonical",
             CALL(set_segment_base, SEGBASE_GS_USER, 0xdead000000000000),
             -XEN_EINVAL);
    check_eq("all as before", gs_word(), 0x9696);
    check_rc("no such base", CALL(set_segment_base, 9, 0), -XEN_EINVAL);
}

static uint64_t user_gs_base(void)
{
    uint32_t low = 0, high = 0;

    PROBE_OP("rdmsr", : "=&a"(low), "=&d"(high) : "c"(0xc0000102));
    return (uint64_t)high << 32 | low;
}

USER static uint64_t user_gs_selector(uint64_t arg)
{
    uint64_t got;

    __asm__ volatile("mov %%gs, %0" : "=r"(got));
    return (got & 0xffff) > 3 ? got + arg : arg;
}

/* Never refused (Linux takes no refusal): what the processor refuses is NUL. */
static void test_user_selector(uint64_t selector, uint64_t want,
                               uint64_t want_base)
{
    CALL(set_segment_base, SEGBASE_GS_KERNEL, &words[1]);
    CALL(set_segment_base, SEGBASE_GS_USER, USER_DATA_VA);
    check_rc("set GS user's selector",
             CALL(set_segment_base, SEGBASE_GS_USER_SEL, selector), 0);
    check_eq("the kernel's base stays", gs_word(), 0x9696);
    check_eq("the user's is the descriptor's", user_gs_base(), want_base);
    /* The way to user space may make 0 of the NUL selectors 1 to 3. */
    check_eq("the user's selector", user_run(user_gs_selector, 0), want);
}

static void test_user_selectors(void)
{
    words[1] = 0x9696;
    for (uint64_t selector = 0; selector <= 3; selector++)
        test_user_selector(selector, 0, 0);
    test_user_selector(0x3f, 0, 0);   /* as ptrace can ask for it */
    test_user_selector(0x3c, 0, 0);   /* likewise, RPL 0 */
    test_user_selector(0xe008, 0, 0); /* emu's own */
    test_user_selector(0xe010, 0, 0);
    test_user_selector(0xe040, 0, 0);
    test_user_selector(0xffff, 0, 0);
    test_user_selector(0x57fff, 0, 0); /* 16 bits of it */
    if (software_kvm())
        skip("selectors of the guest's GDT",
             "a software KVM loads them from the host's");
    else
        test_user_selector(2 * 8, 2 * 8 | 3, 0x1000);
}

static void test_fsgsbase(void)
{
    uint32_t eax = 7, ebx, ecx = 0, edx;
    uint64_t got = 0, cr4;

    __asm__ volatile("ud2; .ascii \"xen\"; cpuid"
                     : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (!(ebx & 1) && !software_kvm()) { /* there they are just not told of */
        skip("FSGSBASE", "not offered by CPUID");
        return;
    }
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    PROBE_OP("mov %0, %%cr4", : : "r"(cr4 | 1UL << 16));
    PROBE_OP("wrfsbase %0", : : "r"(&words[1]));
    check(!caught.taken, "wrfsbase", "vector %u", caught.vector);
    check_eq("it is used", fs_word(), 0x9696);
    PROBE_OP("rdgsbase %0", : "=&r"(got) :);
    check_eq("rdgsbase", got, (uint64_t)&words[1]);
    syscall_hook = ignore_hook;
    check_eq("user wrgsbase survives a system call",
             user_run(user_wrgsbase, USER_DATA_VA + 8), 0x2000);
    syscall_hook = NULL;
    check_eq("the kernel's is untouched", gs_word(), 0x9696);
    check_eq("user space finds its own again", user_run(user_gs, 0), 0x2000);
}

static void test_gdt(void)
{
    uint64_t frame = mfn_of(gdt), bad = 0xfffffff;
    unsigned int base = 0;

    gdt[1] = data_segment((uint32_t)(uint64_t)words);
    if (page_protect(gdt, false))
        panic("GDT page");
    check_rc("set_gdt", CALL(set_gdt, &frame, 512), 0);
    check_rc("update_descriptor",
             CALL(update_descriptor, maddr_of(&gdt[2]), data_segment(0x1000)),
             0);
    check_eq("it is written", gdt[2] & ~(1UL << 40),
             data_segment(0x1000) & ~(1UL << 40));
    check_rc("update_descriptor: not aligned",
             CALL(update_descriptor, maddr_of(&gdt[2]) + 4, 0), -XEN_EINVAL);
    check_rc("update_descriptor: no such page",
             CALL(update_descriptor, 0xfffffff000, 0), -XEN_EINVAL);
    check_rc("set_gdt: no such page", CALL(set_gdt, &bad, 512), -XEN_EINVAL);
    check_rc("set_gdt: too many", CALL(set_gdt, &frame, 9000), -XEN_EINVAL);
    check_rc("set_gdt: bad pointer", CALL(set_gdt, BAD_POINTER, 512),
             -XEN_EFAULT);
    if (software_kvm()) {
        skip("selectors of the guest's GDT",
             "a software KVM loads them from the host's");
        return;
    }
    PROBE_OP("mov %0, %%es", : : "r"(2 * 8 | 3));
    check(!caught.taken, "load a selector", "vector %u error 0x%lx",
          caught.vector, caught.error);
    PROBE_OP("mov %0, %%es", : : "r"(100 * 8 | 3));
    check_trap("load an empty one", X86_GP, 100 * 8);
    PROBE_OP("mov %0, %%es", : : "r"(FLAT_KERNEL_DS));
    PROBE_OP("lsl %1, %0", : "=&r"(base) : "r"(2 * 8 | 3));
    check_eq("lsl sees its limit", base, 0xffffffff);
    __asm__ volatile("mov %0, %%es" ::"r"(0));
}

/* A selector for which the guest's tables have no page. */
static void test_no_page(void)
{
    uint32_t access = 0x55;

    PROBE_OP("mov %0, %%fs", : : "r"(0xdffb));
    check_trap("no page of the GDT", X86_GP, 0xdff8);
    PROBE_OP("lar %1, %0\n\tcmovnz %2, %0",
             : "+r"(access)
             : "r"(0xdffb), "r"(0));
    check(!caught.taken && !access, "lar of it", "trap %u, access 0x%x",
          caught.taken ? caught.vector : 0, access);
}

/* Nothing at all, even if a descriptor stands where a table at 0 would end. */
static void test_no_ldt(const char *name)
{
    PROBE_OP("mov %0, %%fs", : : "r"(0x41e7));
    check_trap(name, X86_GP, 0x41e4);
}

static void test_ldt(void)
{
    test_no_ldt("no LDT yet");
    ldt[3] = data_segment(0x2000);
    if (page_protect(ldt, false))
        panic("LDT page");
    check_rc("SET_LDT", mmuext(MMUEXT_SET_LDT, (uint64_t)ldt, 512), 0);
    check(mmuext(MMUEXT_SET_LDT, (uint64_t)ldt + 4, 512) < 0,
          "SET_LDT: not aligned", "accepted");
    check(mmuext(MMUEXT_SET_LDT, (uint64_t)ldt, 9000) < 0, "SET_LDT: too many",
          "accepted");
    if (software_kvm()) {
        skip("selectors of the guest's LDT",
             "a software KVM loads them from the host's");
    } else {
        PROBE_OP("mov %0, %%es", : : "r"(3 * 8 | 7));
        check(!caught.taken, "load a selector", "vector %u error 0x%lx",
              caught.vector, caught.error);
        PROBE_OP("mov %0, %%es", : : "r"(4 * 8 | 7));
        check_trap("load an empty one", X86_GP, 4 * 8 | 4);
        __asm__ volatile("mov %0, %%es" ::"r"(0));
    }
    check_rc("SET_LDT: none", mmuext(MMUEXT_SET_LDT, 0, 0), 0);
    test_no_ldt("no LDT any more");
}

static void test_fpu(void)
{
    check_rc("fpu_taskswitch: set", CALL(fpu_taskswitch, 1), 0);
    PROBE("fnop");
    if (software_kvm())
        skip("#NM on first use", "a software KVM does not arm CR0.TS");
    else
        check_trap("#NM on first use", X86_NM, 0);
    PROBE("fnop");
    check(!caught.taken, "TS is clear after it", "vector %u", caught.vector);
    CALL(fpu_taskswitch, 1);
    check_rc("fpu_taskswitch: clear", CALL(fpu_taskswitch, 0), 0);
    PROBE("fnop");
    check(!caught.taken, "no #NM then", "vector %u", caught.vector);
}

void guest_main(void)
{
    events_init();
    user_init();
    test_bases();
    test_fsgsbase();
    test_gdt();
    test_user_selectors();
    test_no_page();
    test_ldt();
    test_fpu();
}
