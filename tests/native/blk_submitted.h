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

#endif
