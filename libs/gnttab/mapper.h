/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a process has in use of domains' grants, written down where it
 * outlives the process: a locked file mapper.PID of the runtime directory.
 *
 * A process that dies leaves its marks in the domains' grant tables, and a
 * guest may not take back a page that is marked. The kernel lets go of the
 * lock; whoever opens libxengnttab next, the same daemon started again for
 * one, finds the file, clears the marks and removes it.
 */
#ifndef LIBS_GNTTAB_MAPPER_H
#define LIBS_GNTTAB_MAPPER_H

#include <stdint.h>

struct vmcore;

/* For each handle: the first cleans up behind the dead and makes the file. */
void mapper_open(void);
/* The last one removes it. */
void mapper_close(void);

/*
 * Write down that a grant is in use, before it is marked; the slot goes to
 * mapper_forget() after the marks are gone. -1: there is no file or no room in
 * it, and nobody will clean up. The caller lets nobody else in meanwhile, and has
 * a handle: the file stays.
 */
int mapper_note(const struct vmcore *core, uint32_t ref);
void mapper_forget(int slot);

#endif
