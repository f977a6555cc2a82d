/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-2.1-or-later */
/*
 * The messages of evtchnd's socket, and the page that its clients share: see
 * docs/evtchn.md for who sends what and when.
 *
 * One message is one SOCK_SEQPACKET packet of exactly the structure's size.
 * A request gets one reply, in order; descriptors go with both (SCM_RIGHTS).
 * Included by evtchnd through cffi and by libs/: stdint types, no bit fields,
 * no pointers, no implicit padding.
 */
#ifndef ABI_WIRE_H
#define ABI_WIRE_H

#ifndef ABI_NO_INCLUDES
#include <stdint.h>
#endif

#define EVTCHND_MAGIC 0x4e544345 /* "ECTN" read as bytes */
#define EVTCHND_VERSION 1
#define EVTCHND_MAX_FDS 4

/* --- what a port and a domain can be -------------------------------------- */

/* Ports of the host: as many as Xen's FIFO ABI gives its own dom0. */
#define EVTCHND_HOST_PORTS 131072
/* Ports of a guest at most: those of struct emu_pending (abi/emu.h). */
#define EVTCHND_GUEST_PORTS 4096
/*
 * The host's port that the host's kernel would have for xenstore. It exists
 * from the start, unbound and kept for the host itself: a xenstored that reads
 * /proc/xen/xsd_port binds it.
 */
#define EVTCHND_XENSTORE_PORT 1

#define EVTCHND_NR_VIRQS 24 /* as xen/xen.h's NR_VIRQS */

/* Who a connection is; evtchnd finds it out from its credentials. */
#define EVTCHND_ROLE_HOST 1     /* domain 0, may map guests */
#define EVTCHND_ROLE_LAUNCHER 2 /* domain 0, and registers domains */
#define EVTCHND_ROLE_DOMAIN 3   /* the VM process of one domain */

/* --- requests --------------------------------------------------------------- */

/* First of all: value[0] magic, value[1] version. fds back: page, doorbell. */
#define EVTCHND_HELLO 1
#define EVTCHND_ALLOC_UNBOUND 2    /* dom, remote_dom, port; fds back */
#define EVTCHND_BIND_INTERDOMAIN 3 /* remote_dom, remote_port, port; fds back */
#define EVTCHND_BIND_VIRQ 4        /* virq, vcpu, port; fds back */
#define EVTCHND_BIND_IPI 5         /* vcpu, port; fds back */
#define EVTCHND_BIND_VCPU 6        /* port, vcpu */
#define EVTCHND_SEND 7             /* port: through evtchnd, the slow way */
#define EVTCHND_UNMASK 8           /* port */
#define EVTCHND_STATUS 9           /* dom, port */
#define EVTCHND_CLOSE 10           /* port */
#define EVTCHND_RESET 11           /* dom */
#define EVTCHND_LINK 12            /* port: its state; fds back */
/*
 * A port as it was before evtchnd was restarted: port, remote_dom,
 * remote_port, virq, vcpu, value[0] its EVTCHNSTAT_*. fds: in, out.
 */
#define EVTCHND_RESTORE 13
/* Launcher: domain is a new domain. fds: pidfd of its VM process. */
#define EVTCHND_REGISTER 14
#define EVTCHND_UNREGISTER 15 /* launcher: dom is gone */
/* Launcher: dom has shut down, value[0] is SHUTDOWN_* of xen/sched.h. */
#define EVTCHND_SHUTDOWN 16
#define EVTCHND_RAISE_VIRQ 17 /* launcher: dom, virq, vcpu */
/* VM process: value[0] is where in the vmcore struct emu_pending is. fds:
 * vmcore, the irqfd's eventfd. */
#define EVTCHND_ATTACH 18
/* The first domain whose number is dom or higher; ESRCH: there is none. */
#define EVTCHND_DOMAIN_INFO 19
/*
 * Host: from now on only the ports that it has and those that remote_dom
 * offers, for the length of the connection. EACCES: it is restricted already.
 */
#define EVTCHND_RESTRICT 20

/* "Any number" in port; "this connection's domain" in dom. */
#define EVTCHND_ANY_PORT 0
#define EVTCHND_SELF 0x7ff0 /* as xen/xen.h's DOMID_SELF */

struct evtchnd_domain {
    uint32_t domid;
    uint32_t flags;    /* EVTCHND_DOMAIN_* */
    uint32_t nr_ports; /* 4096 for a 64-bit guest, 1024 for a 32-bit one */
    uint32_t nr_vcpus;
    uint64_t nr_pages;
    uint32_t pid;      /* in replies */
    uint32_t shutdown; /* in replies: SHUTDOWN_*, where flags say so */
    uint8_t handle[16];
};

#define EVTCHND_DOMAIN_SHUTDOWN 0x1

struct evtchnd_request {
    uint32_t type; /* EVTCHND_* above */
    uint32_t tag;  /* comes back in the reply */
    uint32_t dom, port;
    uint32_t remote_dom, remote_port;
    uint32_t virq, vcpu;
    uint64_t value[2];
    struct evtchnd_domain domain; /* REGISTER */
};

/* --- replies ------------------------------------------------------------------ */

/* What the descriptors of a reply are: these bits, in this order. */
#define EVTCHND_FD_IN 0x1       /* the port's doorbell: somebody rang */
#define EVTCHND_FD_OUT 0x2      /* the peer's doorbell: how to ring it */
#define EVTCHND_FD_PAGE 0x4     /* where the peer's pending bits are */
#define EVTCHND_FD_DOORBELL 0x8 /* what to ring after setting one there */

/* What page it is. */
#define EVTCHND_PAGE_HOST 1  /* struct evtchnd_page */
#define EVTCHND_PAGE_GUEST 2 /* struct emu_pending, abi/emu.h */

struct evtchnd_reply {
    uint32_t type, tag; /* the request's */
    uint32_t error;     /* 0, or an errno, Xen's where Xen has the case */
    uint32_t fds;       /* EVTCHND_FD_* */
    uint32_t dom;       /* HELLO: the connection's own; else the port's */
    uint32_t port;
    uint32_t status; /* EVTCHNSTAT_*; HELLO: EVTCHND_ROLE_* */
    uint32_t vcpu;
    uint32_t remote_dom, remote_port;
    uint32_t virq;
    uint32_t page_kind; /* EVTCHND_PAGE_*, with FD_PAGE */
    uint64_t page_id;   /* the same number is the same page */
    uint64_t page_offset;
    struct evtchnd_domain domain; /* DOMAIN_INFO */
};

/* --- the page of a host's handle ------------------------------------------------ */

/*
 * The two-level scheme of Xen's shared_info, for the ports of one handle.
 *
 * A sender sets the port's bit in pending; if its bit in mask is clear, the
 * bit of that word in selector, and rings the doorbell. The handle takes a word
 * of selector and then the bits of pending that are not masked, and masks them.
 * To unmask is to clear the bit of mask and, if pending is set, to do as a
 * sender does. Every access is atomic and sequentially consistent.
 */
struct evtchnd_page {
    /* Moved by evtchnd when the peer of one of the ports changed: ask LINK. */
    uint32_t generation;
    uint32_t reserved[15];
    uint64_t selector[EVTCHND_HOST_PORTS / 64 / 64];
    uint8_t unused[4096 - 64 - EVTCHND_HOST_PORTS / 64 / 8];
    uint64_t pending[EVTCHND_HOST_PORTS / 64];
    uint64_t mask[EVTCHND_HOST_PORTS / 64];
};

#endif
