/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a guest is linked. The same objects serve all flavours; only head.S
 * and the linker script see these.
 *
 * GUEST_VIRT_BASE      where pfn 0 is mapped
 * GUEST_TEXT_OFFSET    where the image begins, from there
 * GUEST_HYPERCALL_PAGE 1: the note, and calls go through the page
 * GUEST_INIT_P2M       address of the p2m list, 0: no note
 * GUEST_MOD_START_PFN  1: the initrd is given as a pfn, unmapped
 */
#ifndef TESTS_GUESTS_FLAVOUR_H
#define TESTS_GUESTS_FLAVOUR_H

#ifndef GUEST_VIRT_BASE
#define GUEST_VIRT_BASE 0xffffffff80000000
#endif
#ifndef GUEST_TEXT_OFFSET
#define GUEST_TEXT_OFFSET 0x100000
#endif
#ifndef GUEST_HYPERCALL_PAGE
#define GUEST_HYPERCALL_PAGE 0
#endif
#ifndef GUEST_INIT_P2M
#define GUEST_INIT_P2M 0
#endif
#ifndef GUEST_MOD_START_PFN
#define GUEST_MOD_START_PFN 0
#endif

#endif
