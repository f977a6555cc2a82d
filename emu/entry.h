/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Macros of the entry code, shared by entry.S and ring0.S. */
#ifndef EMU_ENTRY_H
#define EMU_ENTRY_H

#include "emu/x86.h"

/* clang-format off */

#define FUNC(name)                                                          \
    .globl name;                                                            \
    .type name, @function;                                                  \
    .balign 16;                                                             \
    name:
#define END(name) .size name, . - name

/* From the vector slot down: the rest of struct emu_frame. */
.macro PUSH_GPRS
        pushq   %rdi
        pushq   %rsi
        pushq   %rdx
        pushq   %rcx
        pushq   %rax
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
.endm

/* Leaves %rsp at the vector slot. */
.macro POP_GPRS
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rax
        popq    %rcx
        popq    %rdx
        popq    %rsi
        popq    %rdi
.endm

/* A fault at from continues at to. */
.macro EXTABLE from, to
        .pushsection .extable, "a"
        .balign 8
        .quad   \from, \to
        .popsection
.endm

#endif
