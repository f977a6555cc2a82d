/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 32-bit half of torture: what a 64-bit kernel does for i386 programs.
 * Beside what is here it has the parts that are the same in both widths.
 */
#ifndef TORTURE_I386_H
#define TORTURE_I386_H

#include "../torture.h"

/* __USER_CS and __USER32_CS of Linux. */
#define CS_64 0x33
#define CS_32 0x23

/* The parts, in main's order. */
void ways_in(void);
void faults32(void);
void deaths32(void);
void returns(void);
void floats(void);
void segments(void);
void widths(void);
void traced(void);

#endif
