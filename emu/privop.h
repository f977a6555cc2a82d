/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The decoder of privileged instructions and those who carry them out. */
#ifndef EMU_PRIVOP_H
#define EMU_PRIVOP_H

#include "emu/emu.h"

/* What became of an instruction. */
enum emulated {
    EMULATED,     /* done, rip is to move on */
    REFUSED,      /* the guest gets the #GP that brought us here */
    RAISED,       /* another exception: the frame is its handler's */
    TO_BE_GONE_ON /* a part is done: the guest executes it once more */
};

/* Segment registers as instructions number them; -1: none was named. */
#define SEG_ES 0
#define SEG_CS 1
#define SEG_SS 2
#define SEG_DS 3
#define SEG_FS 4
#define SEG_GS 5

struct insn {
    uint8_t bytes[15];
    unsigned int available, length;
    unsigned int code_bits;     /* 64, 32, 16: the code segment's */
    unsigned int address_bytes; /* 8, 4, 2 */
    int segment;                /* SEG_*, or -1 */
    uint8_t rex;
    bool operand16, repe, repne, lock;
    bool undefined; /* refused with #UD */
};

/* --- decode.c ------------------------------------------------------------- */

/* Up to 15 bytes at cs:rip; false: not in a code segment. */
bool read_code(const struct vcpu *v, const struct emu_frame *f, struct insn *i);
/* The next byte; false: behind what can be read. */
bool fetch(struct insn *i, uint8_t *byte);
void prefixes(struct insn *i);
/* General registers as instructions number them. */
uint64_t *gpr(struct emu_frame *f, unsigned int nr);
/* rip to what follows. */
void move_on(struct emu_frame *f, const struct insn *i);

/* --- who carries them out; false: the guest gets #GP ---------------------- */

/* cpuid.c */
void cpuid_lookup(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
void cpuid(struct vcpu *v, struct emu_frame *f);
/* AMD, or Hygon, who have the same. */
bool cpuid_is_amd(void);
/* control.c */
bool read_cr(struct vcpu *v, unsigned int nr, uint64_t *value);
bool write_cr(struct vcpu *v, unsigned int nr, uint64_t value);
bool write_xcr0(struct vcpu *v, uint64_t value);
/* msr.c */
bool emulate_msr(struct vcpu *v, struct emu_frame *f, bool write);
/* io.c */
bool iopl_ok(const struct vcpu *v);
enum emulated port_io(struct vcpu *v, struct emu_frame *f, unsigned int bytes,
                      bool in, uint16_t port);
enum emulated string_io(struct vcpu *v, struct emu_frame *f,
                        const struct insn *i, unsigned int bytes, bool in);

#endif
