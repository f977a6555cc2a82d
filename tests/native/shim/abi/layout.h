/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real layout, with machine memory in an array of the test program. */
#ifndef TESTS_NATIVE_SHIM_LAYOUT_H
#define TESTS_NATIVE_SHIM_LAYOUT_H

#include_next "abi/layout.h"

#undef DIRECTMAP_VIRT
#define DIRECTMAP_VIRT ((uint64_t)(uintptr_t)native_machine)

/* Emu's 4 MiB, 4 MiB of M2P, 8 MiB of guest. */
#define NATIVE_MACHINE_BYTES 0x1000000
#define NATIVE_GUEST_GPA 0x800000
extern unsigned char native_machine[NATIVE_MACHINE_BYTES];

#endif
