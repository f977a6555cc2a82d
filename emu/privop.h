/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The decoder of privileged instructions and those who carry them out. */
#ifndef EMU_PRIVOP_H
#define EMU_PRIVOP_H

#include "emu/emu.h"

struct insn {
    uint8_t bytes[15];
    unsigned int available, length;
    uint8_t rex;
    bool operand16, rep;
};

void read_insn(struct insn *i, uint64_t rip);
/* The next byte; false: behind what can be read. */
bool fetch(struct insn *i, uint8_t *byte);

/* --- each false: the guest gets #GP ----------------------------------------- */

/* cpuid.c */
void cpuid_lookup(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
void cpuid(struct vcpu *v, struct emu_frame *f);
/* control.c */
bool read_cr(struct vcpu *v, unsigned int nr, uint64_t *value);
bool write_cr(struct vcpu *v, unsigned int nr, uint64_t value);
bool write_xcr0(uint64_t value);
/* msr.c */
bool emulate_msr(struct vcpu *v, struct emu_frame *f, bool write);
/* io.c */
bool io(struct vcpu *v, struct emu_frame *f, unsigned int bytes, bool in,
        uint16_t port);

#endif
