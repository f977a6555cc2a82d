/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GDT and LDT. The CPU needs them mapped whatever root is loaded, so each
 * vCPU has a window of 16 pages for each: 14 pages of the guest's GDT frames
 * and our own page with Xen's flat selectors, and the guest's LDT pages.
 *
 * Where the guest's GDT has no page, there is one of descriptors that are none:
 * a user who names one of them gets #GP. LAR and the like, which kernels use on
 * what a user had in a register, fault on a page that is missing. Pages of an
 * LDT are mapped when it is set or when the processor needs them.
 */
#include "emu/emu.h"
#include "emu/privileged.h"

static const uint8_t no_descriptors[PAGE_SIZE]
    __attribute__((aligned(PAGE_SIZE)));

static pte_t empty_page(void)
{
    return ((uint64_t)no_descriptors - DIRECTMAP_VIRT) | PTE_P | PTE_A;
}

static pte_t *window_l1(unsigned int table_page, const struct vcpu *v)
{
    pte_t *l1 = machine(EMU_TABLES_GPA + table_page * PAGE_SIZE);

    return &l1[v->pub.id * DT_WINDOW_PAGES];
}

/* TSS and LDT descriptors are 16 bytes, SDM vol 3, 8.2.3. */
static void set_system_descriptor(uint64_t *d, uint64_t base, uint32_t limit,
                                  unsigned int type)
{
    d[0] = (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)type << 40 |
           1UL << 47 | (uint64_t)(limit >> 16) << 48 |
           (base >> 24 & 0xff) << 56;
    d[1] = base >> 32;
}

void init_gdt(struct vcpu *v)
{
    pte_t *l2 = machine(EMU_TABLES_GPA + EMU_TABLE_L2_WINDOWS * PAGE_SIZE);
    pte_t *l1 = window_l1(EMU_TABLE_L1_GDT, v);
    uint64_t gpa = (uint64_t)v->gdt - DIRECTMAP_VIRT;

    /* Selectors 0xe008 up: the order that public/arch-x86/xen-x86_64.h and
     * xen-x86_32.h give the guest's flat ones. */
    v->gdt[1] = 0x00af9b000000ffff; /* e008 ring 0 code, 64-bit */
    v->gdt[2] = 0x00cf93000000ffff; /* e010 ring 0 data */
    v->gdt[3] = 0x00cfbb000000ffff; /* e019 ring 1 code, 32-bit */
    v->gdt[4] = 0x00cffb000000ffff; /* e023 ring 3 code, 32-bit */
    v->gdt[5] = 0x00cff3000000ffff; /* e02b ring 3 data */
    v->gdt[6] = 0x00affb000000ffff; /* e033 ring 3 code, 64-bit */
    v->gdt[7] = 0x00cf9b000000ffff; /* e038 ring 0 code, 32-bit */
    set_system_descriptor(&v->gdt[8], (uint64_t)&v->tss, sizeof(v->tss) - 1,
                          0x9);
    /* Those of another vCPU may be the guest's already (set_context()). */
    for (unsigned int i = 0; i < EMU_GDT_PAGES; i++) {
        if (!l1[i])
            l1[i] = empty_page();
    }
    l1[EMU_GDT_PAGES] = gpa | PTE_P | PTE_RW | PTE_A | PTE_D;
    /* The SYSCALL stubs' alias of the vCPU blocks, layout.h. */
    l2[2] = EMU_SHARED_GPA | PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_PS;
}

/* --- what a descriptor may be --------------------------------------------- */

#define DESC_TYPE(d) ((d) >> 40 & 0xf)
#define DESC_S (1UL << 44)
#define DESC_DPL (3UL << 45)
#define DESC_P (1UL << 47)
#define TYPE_CALL_GATE 0xc
/* Of a call gate: its selector, and what must be zero. */
#define GATE_SELECTOR(d) ((d) >> 16 & 0xffff)
#define GATE_RESERVED (0xffUL << 32)

/*
 * As check_descriptor() in Xen's pv/descriptor-tables.c: present segments are
 * ring 3's, where the guest's kernel runs, whatever DPL it wrote; a call gate
 * is nobody's to use, with its DPL kept in the selector; other system
 * descriptors are refused. Here nothing keeps the guest from writing to the
 * page afterwards: what it gains by that is ring 0 of its own machine.
 */
static bool check_descriptor(uint64_t *d)
{
    uint64_t selector;

    if (!(*d & DESC_P) || (!(*d & DESC_S) && DESC_TYPE(*d) == 0))
        return true;
    if (*d & DESC_S) {
        *d |= DESC_DPL;
        return true;
    }
    selector = GATE_SELECTOR(*d);
    if (DESC_TYPE(*d) != TYPE_CALL_GATE || *d & GATE_RESERVED ||
        (selector >= EMU_GDT_BYTE && selector != FLAT_RING3_CS64 &&
         !(selector & 4)))
        return false;
    *d = (*d & ~DESC_DPL) | 3UL << 16;
    return true;
}

/* All of a page of a GDT or an LDT, set right in place. */
static bool check_descriptors(uint64_t mfn)
{
    uint64_t *page = machine(mfn << PAGE_SHIFT);

    if (!mfn_guest(mfn) || table_level(mfn))
        return false;
    for (unsigned int i = 0; i < DESCRIPTORS_PER_PAGE; i++) {
        uint64_t old = READ_ONCE(page[i]), d = old;

        if (!check_descriptor(&d))
            return false;
        if (d != old)
            replace_entry(&page[i], old, d);
    }
    return true;
}

/* --- the two tables ------------------------------------------------------- */

static unsigned int gdt_pages(uint64_t entries)
{
    return (unsigned int)((entries + DESCRIPTORS_PER_PAGE - 1) /
                          DESCRIPTORS_PER_PAGE);
}

int set_gdt_frames(struct vcpu *v, const guest_word *mfns, unsigned int entries)
{
    pte_t *l1 = window_l1(EMU_TABLE_L1_GDT, v);
    unsigned int pages = gdt_pages(entries);

    for (unsigned int i = 0; i < pages; i++) {
        if (!check_descriptors(mfns[i]))
            return -XEN_EINVAL;
    }
    for (unsigned int i = 0; i < EMU_GDT_PAGES; i++) {
        pte_t e = empty_page();

        if (i < pages)
            e = mfns[i] << PAGE_SHIFT | PTE_P | PTE_RW | PTE_A | PTE_D;
        if (l1[i] == e)
            continue;
        l1[i] = e;
        invlpg(GDT_WINDOW_VIRT + v->pub.id * DT_WINDOW_BYTES + i * PAGE_SIZE);
    }
    return 0;
}

int64_t do_set_gdt(struct vcpu *v, guest_word frames, guest_word entries,
                   guest_word a3, guest_word a4, guest_word a5)
{
    guest_word mfns[EMU_GDT_PAGES];

    if (entries > EMU_GDT_MOST_ENTRIES)
        return -XEN_EINVAL;
    if (copy_from_guest(mfns, frames, gdt_pages(entries) * sizeof(mfns[0])))
        return -XEN_EFAULT;
    return set_gdt_frames(v, mfns, (unsigned int)entries);
}

/* A page of the LDT as the guest's kernel maps it now: false if it does not,
 * or if a descriptor in it is refused. */
static bool map_ldt_page(struct vcpu *v, unsigned int page)
{
    uint64_t va = v->ldt_base + page * PAGE_SIZE;
    const pte_t *e;

    if (in_hole(va) || !canonical(va))
        return false;
    e = walk(v->pub.kernel_cr3, va, 1);
    if (!e || !(*e & PTE_P) || !check_descriptors(PTE_MFN(*e)))
        return false;
    window_l1(EMU_TABLE_L1_LDT, v)[page] =
        PTE_MFN(*e) << PAGE_SHIFT | PTE_P | PTE_RW | PTE_A | PTE_D;
    return true;
}

/* What cannot be mapped now is looked at again when it is used. */
int set_ldt(struct vcpu *v, uint64_t base, uint64_t entries)
{
    uint64_t window = LDT_WINDOW_VIRT + v->pub.id * DT_WINDOW_BYTES;

    if (entries > LDT_MOST_ENTRIES ||
        (entries &&
         (base & (PAGE_SIZE - 1) || !canonical(base) || in_hole(base))))
        return -XEN_EINVAL;
    if (entries == 0 && v->ldt_entries == 0)
        return 0;
    v->ldt_base = base;
    v->ldt_entries = (uint32_t)entries;
    for (unsigned int i = 0; i < DT_WINDOW_PAGES; i++) {
        window_l1(EMU_TABLE_L1_LDT, v)[i] = 0;
        if (i * DESCRIPTORS_PER_PAGE < entries)
            map_ldt_page(v, i);
    }
    flush_local(v);
    if (entries)
        set_system_descriptor(&v->gdt[10], window,
                              (uint32_t)(entries * sizeof(uint64_t)) - 1, 0x2);
    lldt(entries ? EMU_LDT : 0);
    return 0;
}

/*
 * The processor found no page of the LDT that it needs for a selector (the
 * access is its own: not a user's): true if there is one now.
 */
bool fix_ldt_fault(struct vcpu *v, uint64_t cr2, uint64_t error_code)
{
    uint64_t at =
        cr2 - (LDT_WINDOW_VIRT + (uint64_t)v->pub.id * DT_WINDOW_BYTES);

    return at < DT_WINDOW_BYTES && !(error_code & (PF_PRESENT | PF_USER)) &&
           map_ldt_page(v, (unsigned int)(at >> PAGE_SHIFT));
}

/*
 * And there is none: a page fault at the guest's own address, as
 * handle_ldt_mapping_fault() in Xen's traps.c. False: no such fault.
 */
bool inject_ldt_fault(struct vcpu *v, struct emu_frame *f, uint64_t cr2)
{
    uint64_t at =
        cr2 - (LDT_WINDOW_VIRT + (uint64_t)v->pub.id * DT_WINDOW_BYTES);

    if (f->error_code & (PF_PRESENT | PF_USER) || at >= DT_WINDOW_BYTES)
        return false;
    if (canonical(v->ldt_base + at))
        inject_page_fault(v, f, v->ldt_base + at, f->error_code);
    else
        inject_trap(v, f, X86_TRAP_GP, (at & ~7UL) | 4);
    return true;
}

/* The entry that a selector names, by the window's own page table: the page
 * need not be mapped where emu's C runs. */
static const uint64_t *find_descriptor(const struct vcpu *v, uint16_t selector)
{
    bool in_ldt = selector & 4;
    unsigned int index = selector >> 3, page = index / DESCRIPTORS_PER_PAGE;
    uint64_t e;

    if (selector < 4 || (in_ldt && index >= v->ldt_entries))
        return NULL;
    if (!in_ldt && page == EMU_GDT_PAGES)
        return index % DESCRIPTORS_PER_PAGE < ARRAY_SIZE(v->gdt)
                   ? &v->gdt[index % DESCRIPTORS_PER_PAGE]
                   : NULL;
    e = window_l1(in_ldt ? EMU_TABLE_L1_LDT : EMU_TABLE_L1_GDT, v)[page];
    /* Where the guest has no page, an empty one of emu's may stand. */
    if (!(e & PTE_P) || !mfn_guest(PTE_MFN(e)))
        return NULL;
    return (const uint64_t *)machine(PTE_MFN(e) << PAGE_SHIFT) +
           index % DESCRIPTORS_PER_PAGE;
}

/* SDM vol 3, 3.4.5. */
bool read_descriptor(const struct vcpu *v, uint16_t selector,
                     struct descriptor *d)
{
    const uint64_t *at = find_descriptor(v, selector);
    uint64_t e;

    if (!at)
        return false;
    e = READ_ONCE(*at);
    *d = (struct descriptor){
        .base = (e >> 16 & 0xffffff) | (e >> 56) << 24,
        .limit = (e & 0xffff) | (e >> 32 & 0xf0000),
        .is_segment = e >> 44 & 1,
        .is_present = e >> 47 & 1,
        .is_code = e >> 43 & 1,
        .is_writable = e >> 41 & 1,
        .is_64bit = e >> 53 & 1,
        .is_32bit = e >> 54 & 1,
    };
    if (e >> 55 & 1) /* counted in pages */
        d->limit = d->limit << PAGE_SHIFT | (PAGE_SIZE - 1);
    return true;
}

int64_t do_update_descriptor(struct vcpu *v, guest_word maddr, guest_word desc,
                             guest_word a3, guest_word a4, guest_word a5)
{
    if (maddr & 7 || !check_descriptor(&desc) ||
        !mfn_guest(maddr >> PAGE_SHIFT) || table_level(maddr >> PAGE_SHIFT))
        return -XEN_EINVAL;
    WRITE_ONCE(*(uint64_t *)machine(maddr), desc);
    return 0;
}
