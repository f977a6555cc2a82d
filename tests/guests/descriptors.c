/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a descriptor of the guest's may be, and where tables have no page. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "descriptors";

#define DATA 0x00cf92000000ffffUL /* flat, present, DPL 0 */
#define CODE 0x00af9a000000ffffUL /* likewise, 64-bit */
#define DPL3 (3UL << 45)
#define PRESENT (1UL << 47)
#define SYSTEM(type) (PRESENT | (uint64_t)(type) << 40 | DPL3 | 0x67)
#define ACCESSED (1UL << 40)

static uint64_t gdt[512] PAGE_ALIGNED, ldt[2][512] PAGE_ALIGNED;

static int64_t update(uint64_t *at, uint64_t value)
{
    return CALL(update_descriptor, maddr_of(at), value);
}

static void test_update(void)
{
    static const struct {
        const char *name;
        uint64_t value, written; /* 0: refused */
    } cases[] = {
        {"data of DPL 0", DATA, DATA | DPL3},
        {"data of DPL 2", DATA | 2UL << 45, DATA | DPL3},
        {"code of DPL 0", CODE, CODE | DPL3},
        {"code of DPL 3", CODE | DPL3, CODE | DPL3},
        {"data, not present", DATA & ~PRESENT, DATA & ~PRESENT},
        {"nothing", 0x1234, 0x1234},
        {"type 0, present", PRESENT | DPL3, PRESENT | DPL3},
        {"a TSS, not present", SYSTEM(9) & ~PRESENT, SYSTEM(9) & ~PRESENT},
        {"a TSS", SYSTEM(9), 0},
        {"a busy TSS", SYSTEM(11), 0},
        {"an LDT", SYSTEM(2), 0},
        {"an interrupt gate", SYSTEM(14), 0},
        {"a trap gate", SYSTEM(15), 0},
        {"a 16-bit call gate", SYSTEM(4), 0},
        {"a call gate", SYSTEM(12) | 0x10UL << 16,
         (SYSTEM(12) & ~DPL3) | 0x13UL << 16},
        {"a call gate to the kernel's flat code",
         SYSTEM(12) | (uint64_t)FLAT_KERNEL_CS << 16,
         (SYSTEM(12) & ~DPL3) | (uint64_t)FLAT_KERNEL_CS << 16},
        {"a call gate to Xen's code", SYSTEM(12) | 0xe008UL << 16, 0},
        {"a call gate with parameters", SYSTEM(12) | 0x10UL << 16 | 1UL << 32,
         0},
    };
    static const uint64_t before = 0x4711;

    for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
        update(&gdt[9], before);
        check_rc(cases[i].name, update(&gdt[9], cases[i].value),
                 cases[i].written ? 0 : -XEN_EINVAL);
        check_eq(cases[i].name, gdt[9],
                 cases[i].written ? cases[i].written : before);
    }
    update(&gdt[9], 0);
    check_rc("a descriptor in a page table",
             update((uint64_t *)start_info->pt_base, 0), -XEN_EINVAL);
}

/* As 2.6.18 has it: its own kernel selectors 0x10 and 0x18 with DPL 0. */
static void test_set_gdt(void)
{
    uint64_t frame = mfn_of(gdt), table = mfn_of((void *)start_info->pt_base);

    gdt[2] = CODE;
    gdt[3] = DATA;
    gdt[9] = CODE;
    gdt[511] = DATA;
    check_rc("set_gdt", CALL(set_gdt, &frame, 512), 0);
    check_eq("code for ring 3", gdt[2] & ~ACCESSED, CODE | DPL3);
    check_eq("data for ring 3", gdt[3] & ~ACCESSED, DATA | DPL3);
    check_eq("to the end", gdt[511] & ~ACCESSED, DATA | DPL3);
    gdt[100] = SYSTEM(9);
    check_rc("set_gdt with a TSS", CALL(set_gdt, &frame, 16), -XEN_EINVAL);
    gdt[100] = 0;
    check_rc("set_gdt of a page table", CALL(set_gdt, &table, 16), -XEN_EINVAL);
    check_rc("set_gdt as before", CALL(set_gdt, &frame, 512), 0);
}

static void load_es(unsigned int selector)
{
    PROBE_OP("mov %0, %%es", : : "r"(selector));
}

static void test_selectors(void)
{
    uint64_t sp, scratch;

    load_es(0x1b);
    check(!caught.taken, "mov to es of 0x1b", "vector %u", caught.vector);
    load_es(600 * 8 | 3);
    check_trap("a selector behind the GDT's pages", X86_GP, 600 * 8);
    __asm__ volatile("mov %%rsp, %0" : "=r"(sp));
    /* What iret does with a kernel thread's first frame. */
    PROBE_OP("push %2\n\tpush %1\n\tpushf\n\tpush %3\n\t"
             "lea 1f(%%rip), %0\n\tpush %0\n\tiretq\n1:",
             : "=&r"(scratch)
             : "r"(sp), "r"(0x1bUL), "r"(0x13UL));
    check(!caught.taken, "iretq to 0x13, 0x1b", "vector %u error 0x%lx",
          caught.vector, caught.error);
}

/* A hypercall for which emu asks the host, from a code segment of the guest's. */
static void test_own_code(uint64_t selector)
{
    static char text[] = "from a segment of the guest's own\n";
    uint64_t scratch;

    PROBE_OP("push %1\n\tlea 1f(%%rip), %0\n\tpush %0\n\tlretq\n1:",
             : "=&r"(scratch)
             : "r"(selector));
    if (caught.taken) {
        skip("a code segment of the guest's own", "it cannot be loaded");
        return;
    }
    check_rc("a hypercall from it",
             CALL(console_io, CONSOLEIO_write, sizeof(text) - 1, text), 0);
}

static int64_t map_second(bool present)
{
    return CALL(update_va_mapping, ldt[1],
                present ? mfn_of(ldt[1]) * PAGE_SIZE | PTE_P | PTE_A | PTE_D
                        : 0,
                UVMF_INVLPG | UVMF_ALL);
}

/* The LDT's pages are looked at when they are used. */
static void test_ldt(void)
{
    ldt[0][3] = DATA;
    ldt[1][3] = DATA;
    if (page_protect(ldt[0], false) || map_second(false))
        panic("LDT pages");
    check_rc("SET_LDT, one page is not there",
             mmuext(MMUEXT_SET_LDT, (uint64_t)ldt, 1024), 0);
    check_eq("one for ring 3", ldt[0][3] & ~ACCESSED, DATA | DPL3);
    load_es(3 * 8 | 7);
    check(!caught.taken, "a selector in the first page", "vector %u",
          caught.vector);
    load_es(515 * 8 | 7);
    check_trap("in the second", X86_PF, 0);
    check_eq("at the guest's own address", caught.cr2 & ~7UL,
             (uint64_t)&ldt[1][3]);
    map_second(true);
    load_es(515 * 8 | 7);
    check(!caught.taken, "once it is there", "vector %u error 0x%lx",
          caught.vector, caught.error);
    check_eq("for ring 3 too", ldt[1][3] & ~ACCESSED, DATA | DPL3);
    load_es(0);
    check_rc("SET_LDT: none", mmuext(MMUEXT_SET_LDT, 0, 0), 0);
    check_rc("SET_LDT in Xen's part",
             mmuext(MMUEXT_SET_LDT, (uint64_t)XEN_POINTER, 8), -XEN_EINVAL);
}

void guest_main(void)
{
    if (page_protect(gdt, false))
        panic("GDT page");
    test_update();
    page_protect(gdt, true);
    test_set_gdt();
    test_own_code(2 * 8 | 3);
    test_own_code(9 * 8 | 3);
    if (software_kvm()) {
        skip("selectors of the guest's tables",
             "a software KVM loads them from the host's");
        return;
    }
    test_selectors();
    test_ldt();
}
