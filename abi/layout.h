/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-2.1-or-later */
/*
 * Every guest-physical and virtual constant, once.
 *
 * Guest-physical ("machine") address == offset in the vmcore file. Assembly
 * and linker scripts read this file as C does, Python has what is a literal
 * (xenner/header_build.py): keep each #define one, without a suffix or cast.
 */
#ifndef ABI_LAYOUT_H
#define ABI_LAYOUT_H

/* --- machine memory below the guest ------------------------------------ */

/* ELF header and program headers of the vmcore; owned by nobody inside. */
#define VMCORE_HEADER_GPA 0x0
/* PT_NOTE contents: one NT_PRSTATUS per vCPU, written by the VM process. */
#define VMCORE_NOTES_GPA 0x1000
#define VMCORE_NOTES_BYTES 0xf000
/* emu's text, read-only data and data, loaded from its ELF file. */
#define EMU_IMAGE_GPA 0x10000
#define EMU_IMAGE_BYTES 0x1f0000
/* struct emu_shared (abi/emu.h), two pages. */
#define EMU_SHARED_GPA 0x200000
#define EMU_SHARED_BYTES 0x2000
/* The page that start_info.shared_info names. */
#define SHARED_INFO_GPA 0x202000
/* struct emu_pending (abi/emu.h): events raised from outside the VM. */
#define EMU_PENDING_GPA 0x203000
/* emu's own page tables, built by the VM process; see EMU_TABLE_*. */
#define EMU_TABLES_GPA 0x210000
#define EMU_TABLES_BYTES 0xa0000
/* Grant table frames (version 1), zeroed at start. */
#define GRANT_FRAMES_GPA 0x2b0000
#define GRANT_FRAMES_BYTES 0x40000
/* struct emu_vcpu (abi/emu.h), one block per vCPU, aligned to its size. */
#define EMU_VCPU_GPA 0x300000
#define EMU_VCPU_BYTES 0x8000
#define EMU_MAX_VCPUS 32
/*
 * The machine-to-physical table: one 64-bit pfn per machine page, ~0 where
 * no guest page is. Its size is a multiple of M2P_ALIGN_BYTES, the pages with
 * which it is mapped. Behind it the types of the pages, EMU_TYPE_* of
 * abi/emu.h; behind them, at the next multiple of GUEST_ALIGN_BYTES, the
 * guest's first machine page: "shifted by 8 MiB" up to 1016 MiB.
 */
#define M2P_GPA 0x400000
#define M2P_ALIGN_BYTES 0x200000
#define PAGE_TYPE_BYTES 4
#define GUEST_ALIGN_BYTES 0x400000

/*
 * Machine addresses of the LAPIC page and KVM's own slots: the vmcore has a
 * hole here and no guest page gets an mfn in it.
 */
#define MACHINE_HOLE_GPA 0xfe000000
#define MACHINE_HOLE_END_GPA 0x100000000

/* --- page indices inside EMU_TABLES_GPA ---------------------------------- */

#define EMU_TABLE_L4 0           /* boot root: only the slots below */
#define EMU_TABLE_L3_DIRECTMAP 1 /* slot 257 */
#define EMU_TABLE_L3_M2P 2       /* slots 258 and 256 */
#define EMU_TABLE_L3_WINDOWS 3   /* slot 259 */
#define EMU_TABLE_L2_WINDOWS 4
#define EMU_TABLE_L1_GDT 5        /* 16 pages of GDT for each of 32 vCPUs */
#define EMU_TABLE_L1_LDT 6        /* likewise for LDTs */
#define EMU_TABLE_L2_M2P 7        /* 2 MiB pages, read-only */
#define EMU_TABLE_L2_DIRECTMAP 16 /* first of one per GiB, 2 MiB pages */
#define EMU_DIRECTMAP_MAX_GIB 144

/* --- virtual addresses, all in Xen's hole (PML4 slots 256-271) ------------ */

/* Where guests that do not ask expect the M2P (xen-x86_64.h). */
#define M2P_ALIAS_SLOT 256
/* All machine memory, 1:1; emu is linked at DIRECTMAP_VIRT + EMU_IMAGE_GPA. */
#define DIRECTMAP_SLOT 257
#define DIRECTMAP_VIRT 0xffff808000000000
/* The M2P as XENMEM_machphys_mapping reports it; read-only for the guest. */
#define M2P_SLOT 258
#define M2P_VIRT 0xffff810000000000
/* Per-vCPU windows onto the guest's GDT and LDT frames, 64 KiB each. */
#define WINDOWS_SLOT 259
#define GDT_WINDOW_VIRT 0xffff818000000000
#define LDT_WINDOW_VIRT 0xffff818000200000
#define DT_WINDOW_BYTES 0x10000
/* First and one past the last slot that belong to Xen. */
#define XEN_FIRST_SLOT 256
#define XEN_END_SLOT 272

#endif
