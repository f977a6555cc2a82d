/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What event_channel.c knows of a port, and what event_2l.c does with one. */
#ifndef EMU_EVENT_H
#define EMU_EVENT_H

#include "emu/emu.h"

struct evtchn {
    uint8_t state : 7;      /* EVTCHNSTAT_* */
    uint8_t is_console : 1; /* the one of struct emu_console */
    uint8_t vcpu;           /* that hears of it */
    uint8_t virq;           /* EVTCHNSTAT_virq */
    uint8_t virq_vcpu;      /* whose it is */
    uint16_t remote_dom;    /* unbound, interdomain */
    uint16_t remote_port;   /* interdomain within this domain; 0: outside */
};

static inline bool port_exists(uint32_t port)
{
    return port > 0 && port < EMU_NR_EVTCHN;
}

_Static_assert(sizeof(struct evtchn) == 8, "one load, one store");

/* A port that exists. */
static inline struct evtchn read_evtchn(uint32_t nr)
{
    uint64_t word = __atomic_load_n(&emu_machine.evtchn[nr], __ATOMIC_SEQ_CST);
    struct evtchn p;

    __builtin_memcpy(&p, &word, sizeof(p));
    return p;
}

/* event_2l.c; 0 or one of Xen's errors. */
int evtchn_send(uint32_t nr);
int evtchn_unmask(uint32_t nr);
void evtchn_set_pending(uint32_t port);
void evtchn_clear_pending(uint32_t port);

#endif
