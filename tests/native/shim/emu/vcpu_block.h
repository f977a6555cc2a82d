/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real header; the vCPU is not found from the stack pointer, though. */
#ifndef TESTS_NATIVE_SHIM_VCPU_BLOCK_H
#define TESTS_NATIVE_SHIM_VCPU_BLOCK_H

#define this_vcpu emu_this_vcpu
#include_next "emu/vcpu_block.h"
#undef this_vcpu
#define this_vcpu() vcpu_by_id(0)

#endif
