/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User space that leans on what a hypervisor can get wrong: its output is the
 * same on any correct x86-64 Linux, so a guest's can be compared with the
 * host's line by line. No process numbers, addresses or times are printed.
 */
#ifndef TORTURE_H
#define TORTURE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE 4096
#define PROCESSES 6

/* Path of this program, for those that exec it. */
extern const char *self;

/* One line of the output. */
void result(const char *name, long value);
/* A small generator, so that both sides do the same. */
uint32_t next(uint32_t *state);
uint32_t checksum(const unsigned char *data, size_t bytes);
/* waitpid's status, or -1. */
int wait_status(pid_t pid);
/* The signal that ended a child in how(), or minus its exit status. */
long death(void (*how)(void));

/* Alone, for a guest: what its ports are. */
void ports(void);

/* The parts, in main's order. */
void fork_storm(void);
void fork_tree(int depth);
void exec_storm(void);
void pipes(void);
void signals(void);
void faults(void);
void deaths(void);
void processor(void);
void timer_signals(void);
void avx(void);
void bases(void);
void flags(void);
void map_storm(void);
void copy_on_write(void);
void into_kernel(void);
void freed_tables(void);
void threads(void);
void single_steps(void);
void entries(void);
void asked(void);
/* Alone: "armed". */
void armed(void);
long grow(long level);

#endif
