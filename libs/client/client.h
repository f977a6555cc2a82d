/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The client of evtchnd's socket: one request, one reply (abi/wire.h).
 *
 * Functions that fail return -1 and set errno, to Xen's own value where Xen
 * has the case. A client may be used from several threads.
 */
#ifndef LIBS_CLIENT_H
#define LIBS_CLIENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "abi/wire.h"
#include "libs/client/paths.h"

struct evtchnd_client {
    pthread_mutex_t lock; /* one request at a time */
    int fd;
    bool cloexec;
};

/* A reply and its descriptors, -1 where there is none; the caller's. */
struct evtchnd_answer {
    struct evtchnd_reply reply;
    int in, out, page, doorbell;
};

/*
 * Connect and say HELLO. A caller that has a page from before, and its
 * doorbell, gives them (-1, -1 otherwise); *hello then has none.
 */
int evtchnd_connect(struct evtchnd_client *client, bool cloexec, int page,
                    int doorbell, struct evtchnd_answer *hello);

/*
 * The same again with a client whose connection was lost. EAGAIN: the socket
 * is there, but nobody has answered for a second.
 */
int evtchnd_reconnect(struct evtchnd_client *client, int page, int doorbell,
                      struct evtchnd_answer *hello);

void evtchnd_disconnect(struct evtchnd_client *client);

/* A client without a connection, for a caller that has one to put into fd. */
void evtchnd_adopt(struct evtchnd_client *client);
/* The end of a client, and not of its connection. */
void evtchnd_forget(struct evtchnd_client *client);

/*
 * Ask. in and out go with the request unless they are -1. EMFILE: a
 * descriptor of the reply had no room here; the rest of it is closed.
 * ENOTCONN, EPIPE, ECONNRESET: the connection is lost.
 */
int evtchnd_call(struct evtchnd_client *client, struct evtchnd_request *request,
                 int in, int out, struct evtchnd_answer *answer);

/* Close what descriptors an answer has. */
void evtchnd_discard(struct evtchnd_answer *answer);

/* Is it this errno that a lost connection has? */
bool evtchnd_is_lost(int error);

#endif
