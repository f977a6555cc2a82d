/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A domain without a guest: this process has its memory, a vmcore that the
 * caller has made, and its connection to evtchnd.
 */
#ifndef TESTS_SUPPORT_DOMAIN_H
#define TESTS_SUPPORT_DOMAIN_H

#include <stdbool.h>
#include <stdint.h>

#include <xen/grant_table.h>

#include "libs/client/client.h"

#define PAGE_BYTES 4096
/* Page n of the domain is granted as FIRST_REF + n. */
#define FIRST_REF 8
#define NR_PAGES 6144

/* Exits with a message if it cannot be. */
void must(bool is_true, const char *what);

/* Its pages, all of them granted; its grants; and evtchnd's client for it. */
void domain_open(uint32_t domid, char **memory, grant_entry_v1_t **grants,
                 struct evtchnd_client *client);

#endif
