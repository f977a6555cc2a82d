/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bits and numbers of the architecture, once: SDM vol 1, 3.4.3 (RFLAGS), vol 3,
 * 2.5 (control registers), 6.3 and table 6-1 (exceptions), 17.2 (debug
 * registers). For C and assembly.
 */
#ifndef EMU_X86_H
#define EMU_X86_H

#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)

/* Bits of an entry of page tables, at any level (SDM vol 3, 4.3 to 4.5). */
#define PTE_P 0x1UL
#define PTE_RW 0x2UL
#define PTE_US 0x4UL
#define PTE_A 0x20UL
#define PTE_D 0x40UL
#define PTE_PS 0x80UL

/* Segment descriptors: 8 bytes each. */
#define DESCRIPTORS_PER_PAGE (PAGE_SIZE / 8)
#define LDT_MOST_ENTRIES 8192

#define RFLAGS_FIXED 0x2
#define RFLAGS_TF 0x100
#define RFLAGS_IF 0x200
#define RFLAGS_DF 0x400
#define RFLAGS_OF 0x800
#define RFLAGS_IOPL 0x3000
#define RFLAGS_NT 0x4000
#define RFLAGS_RF 0x10000
#define RFLAGS_VM 0x20000
#define RFLAGS_AC 0x40000
/* All that mean something. */
#define RFLAGS_DEFINED 0x257fd7

#define CR0_TS 0x8
#define CR4_TSD 0x4
#define CR4_DE 0x8
#define CR4_FSGSBASE 0x10000
#define CR4_OSXSAVE 0x40000

#define XCR0_X87 0x1
#define XCR0_SSE 0x2
#define XCR0_AVX 0x4
#define XCR0_AVX512 0xe0

#define CPUID_7_EBX_FSGSBASE 0x1
#define CPUID_80000001_EDX_RDTSCP 0x8000000

#define DR6_FIXED 0xffff0ff0
#define DR6_BS 0x4000
#define DR7_FIXED 0x400
#define DR7_GD 0x2000
#define DR7_ENABLED 0xff /* any of the four, locally or globally */

#define X86_TRAP_DB 1
#define X86_TRAP_NMI 2
#define X86_TRAP_BP 3
#define X86_TRAP_OF 4
#define X86_TRAP_UD 6
#define X86_TRAP_NM 7
#define X86_TRAP_SS 12
#define X86_TRAP_GP 13
#define X86_TRAP_PF 14

/* Errors of a page fault (SDM vol 3, 4.7). */
#define PF_PRESENT 0x1
#define PF_WRITE 0x2
#define PF_USER 0x4
#define PF_RESERVED 0x8
#define PF_FETCH 0x10

#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102 /* what SWAPGS brings */
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC_EOI 0x80b
#define MSR_X2APIC_LVT_TIMER 0x832
#define MSR_X2APIC_TIMER_INITIAL 0x838
#define MSR_X2APIC_TIMER_DIVIDE 0x83e
#define MSR_X2APIC_ISR7 0x817 /* vectors from 0xe0 */

#define APIC_TIMER_PERIODIC 0x20000
#define APIC_TIMER_TSC_DEADLINE 0x40000
#define APIC_TIMER_DIVIDE_BY_1 0xb

/* Vectors for which the CPU pushes an error code. */
#define HAS_ERROR_CODE(n)                                              \
    ((n) == 8 || ((n) >= 10 && (n) <= 14) || (n) == 17 || (n) == 21 || \
     (n) == 29 || (n) == 30)

#endif
