/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A domain for the block engine: libxenevtchn and libxengnttab of one channel
 * and some pages, in this process. Grant n is page n; fake_nr_granted and above
 * are not granted.
 */
#ifndef TESTS_NATIVE_BLK_FAKES_H
#define TESTS_NATIVE_BLK_FAKES_H

#include <stdbool.h>
#include <stdint.h>

#define FAKE_PAGES 64
#define FAKE_PORT 9

extern char *fake_memory;
extern unsigned int fake_nr_granted; /* FAKE_PAGES at first */
/* fallocate(2) does not come back as long as this is so. */
extern bool fake_is_slow;
extern unsigned int fake_nr_mapped; /* pages that the engine has mapped */
extern unsigned int fake_nr_notified;
/* So often from now on the host has no memory to map anything. */
extern unsigned int fake_nr_short;

void fake_domain_new(void);
void fake_domain_free(void);
/* The frontend sends an event. */
void fake_send(void);

#endif
