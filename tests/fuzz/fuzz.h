/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A user of a guest who means it harm: what user space can do to a processor
 * and to a kernel, at random. It runs in a guest, never on a host that others
 * use, and all it says is how much it did: the guest must be alive at its end.
 *
 * A round is one child process that makes some attempts of one part. What it
 * does follows from its seed alone, but for timing.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096UL
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* --- chance (chance.c) --- */

void seed(uint64_t value);
uint64_t any(void);
/* 0 to n - 1. */
unsigned int below(unsigned int n);
bool one_in(unsigned int n);
/* Where addresses change their meaning, and near it. */
uint64_t address(void);
/* One more of them, known to who starts us. */
extern uint64_t known_address;
/* Likewise for any 64-bit word. */
uint64_t word(void);
uint16_t selector(void);
uint64_t eflags(void);
void scribble(void *to, size_t bytes);

/* --- surviving (attempt.c) --- */

/* Signals end attempts from here on, and a timer those that hang. */
void attempts_init(void);
/* fn(arg); 0, or the signal that ended it. All registers may be lost. */
int attempt(void (*fn)(void *arg), void *arg);
/* How many there were, of all processes: shared memory. */
extern uint64_t *nr_attempts;
/* Told in a replay alone: what is about to be tried. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern bool is_replay;
/* So many SIGTRAPs are returned from before one ends an attempt. */
extern int traps_left;

/* --- places for code and data (places.c) --- */

/* Three pages below 4 GiB: code, code, nothing. */
#define LOW_CODE 0x10000UL
#define LOW_NOTHING (LOW_CODE + 2 * PAGE)
#define LOW_STACK 0x20000UL
#define LOW_STACK_TOP (LOW_STACK + PAGE)
/* The last page that user space can have. */
#define LAST_PAGE 0x7fffffffe000UL

void places_init(void);
/* An address at which these bytes stand; often right before a hole. */
uint8_t *put_code(const uint8_t *code, size_t bytes);
/* The last of the program's attempts to leave its mode: bytes that work, or
 * end, in 64-bit and in 32-bit code. */
uint64_t landing(bool low);

/* --- the parts --- */

/* An instruction, prefixes and all, at to[0..15); its length. */
size_t make_instruction(uint8_t *to);

void part_selectors(void);
void part_descriptors(void);
void part_transfers(void);
void part_instructions(void);
void part_noise(void);
void part_flags(void);
void part_sigreturn(void);
void part_traced(void);
void part_calls(void);
void part_addresses(void);
void part_fpu(void);
void part_ports(void);
void part_memory(void);

#endif
