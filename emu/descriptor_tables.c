/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GDT and LDT. The CPU needs them mapped whatever root is loaded, so each
 * vCPU has a window of 16 pages for each: 14 pages of the guest's GDT frames
 * and our own page with Xen's flat selectors, and the guest's LDT pages.
 *
 * Where the guest has no page, there is one of descriptors that are none: a
 * user who names one of them gets #GP. LAR and the like, which kernels use on
 * what a user had in a register, fault on a page that is missing.
 */
#include "emu/emu.h"
#include "emu/privileged.h"

static const uint8_t no_descriptors[PAGE_SIZE]
    __attribute__((aligned(PAGE_SIZE)));

static uint64_t empty_page(void)
{
    return ((uint64_t)no_descriptors - DIRECTMAP_VIRT) | PTE_P | PTE_A;
}

static uint64_t *window_l1(unsigned int table_page, const struct vcpu *v)
{
    uint64_t *l1 = machine(EMU_TABLES_GPA + table_page * PAGE_SIZE);

    return &l1[v->pub.id * 16];
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
    uint64_t *l2 = machine(EMU_TABLES_GPA + EMU_TABLE_L2_WINDOWS * PAGE_SIZE);
    uint64_t *l1 = window_l1(EMU_TABLE_L1_GDT, v);
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

int set_gdt_frames(struct vcpu *v, const uint64_t *mfns, unsigned int entries)
{
    uint64_t *l1 = window_l1(EMU_TABLE_L1_GDT, v);
    unsigned int pages = (entries + 511) / 512;

    for (unsigned int i = 0; i < pages; i++) {
        if (!mfn_guest(mfns[i]))
            return -XEN_EINVAL;
    }
    for (unsigned int i = 0; i < EMU_GDT_PAGES; i++) {
        uint64_t e = empty_page();

        if (i < pages)
            e = mfns[i] << PAGE_SHIFT | PTE_P | PTE_RW | PTE_A | PTE_D;
        if (l1[i] == e)
            continue;
        l1[i] = e;
        invlpg(GDT_WINDOW_VIRT + v->pub.id * DT_WINDOW_BYTES + i * PAGE_SIZE);
    }
    return 0;
}

int64_t do_set_gdt(struct vcpu *v, uint64_t frames, uint64_t entries,
                   uint64_t a3, uint64_t a4, uint64_t a5)
{
    uint64_t mfns[EMU_GDT_PAGES];

    (void)a3, (void)a4, (void)a5;
    if (entries > EMU_GDT_PAGES * 512)
        return -XEN_EINVAL;
    if (copy_from_guest(mfns, frames, (entries + 511) / 512 * 8))
        return -XEN_EFAULT;
    return set_gdt_frames(v, mfns, (unsigned int)entries);
}

int set_ldt(struct vcpu *v, uint64_t base, uint64_t entries)
{
    uint64_t *l1 = window_l1(EMU_TABLE_L1_LDT, v);
    uint64_t window = LDT_WINDOW_VIRT + v->pub.id * DT_WINDOW_BYTES;

    if (entries > 8192 || base & (PAGE_SIZE - 1))
        return -XEN_EINVAL;
    if (entries == 0 && v->ldt_entries == 0)
        return 0;
    for (unsigned int i = 0; i < 16; i++) {
        uint64_t *e = NULL;

        l1[i] = empty_page();
        if (i * 512 < entries)
            e = walk(v->pub.kernel_cr3, base + i * PAGE_SIZE, 1);
        if (e && *e & PTE_P && mfn_guest(PTE_MFN(*e)))
            l1[i] = PTE_MFN(*e) << PAGE_SHIFT | PTE_P | PTE_RW | PTE_A | PTE_D;
    }
    v->ldt_entries = (uint32_t)entries;
    flush_local(v);
    if (entries)
        set_system_descriptor(&v->gdt[10], window, (uint32_t)entries * 8 - 1,
                              0x2);
    lldt(entries ? EMU_LDT : 0);
    return 0;
}

/* The entry that a selector names, by the window's own page table: the page
 * need not be mapped where emu's C runs. */
static const uint64_t *find_descriptor(const struct vcpu *v, uint16_t selector)
{
    bool in_ldt = selector & 4;
    unsigned int index = selector >> 3, page = index / 512;
    uint64_t e;

    if (selector < 4 || (in_ldt && index >= v->ldt_entries))
        return NULL;
    if (!in_ldt && page == EMU_GDT_PAGES)
        return index % 512 < ARRAY_SIZE(v->gdt) ? &v->gdt[index % 512] : NULL;
    e = window_l1(in_ldt ? EMU_TABLE_L1_LDT : EMU_TABLE_L1_GDT, v)[page];
    if (!(e & PTE_P))
        return NULL;
    return (const uint64_t *)machine(PTE_MFN(e) << PAGE_SHIFT) + index % 512;
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

int64_t do_update_descriptor(struct vcpu *v, uint64_t maddr, uint64_t desc,
                             uint64_t a3, uint64_t a4, uint64_t a5)
{
    (void)v, (void)a3, (void)a4, (void)a5;
    if (maddr & 7 || !mfn_guest(maddr >> PAGE_SHIFT))
        return -XEN_EINVAL;
    WRITE_ONCE(*(uint64_t *)machine(maddr), desc);
    return 0;
}
