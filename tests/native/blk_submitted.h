/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_NATIVE_BLK_SUBMITTED_H
#define TESTS_NATIVE_BLK_SUBMITTED_H

#include <stdbool.h>

/* What io_submit(2) was given: "r" and "w" of data, "s" for a sync. */
extern char fake_submitted[64];
/* Whether a sync is to be held until fake_let_sync(). */
extern bool fake_holds_syncs;

/* The sync that is held, if one is, is done. */
void fake_let_sync(void);
/* Where the last one's data is; may this process write there? */
extern void *fake_buffer;
bool fake_may_write(void *address);
/* So many io_submit(2) from now on fail with this errno, */
extern int fake_submit_errno;
extern unsigned int fake_nr_unsubmitted;
/* so many results of what ended at once are -ENOMEM, */
extern unsigned int fake_nr_results_lost;
/* and so many threads cannot be made. */
extern unsigned int fake_nr_threads_refused;

#endif
