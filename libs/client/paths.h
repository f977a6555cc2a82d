/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef LIBS_CLIENT_PATHS_H
#define LIBS_CLIENT_PATHS_H

#include <stddef.h>

/*
 * Where the sockets and vmcores are: $XENNER_RUNTIME_DIR, else /run/xenner, or
 * /dev/shm/xenner where /run is no tmpfs (xenner/paths.py). As snprintf(3):
 * "<directory>/<name>" into path. -1: ENAMETOOLONG, it is cut; or, of
 * /dev/shm/xenner, ENOENT, it is not there, or EPERM, it is neither ours nor
 * root's, or others write there.
 */
int evtchnd_runtime_path(char *path, size_t bytes, const char *name);

#endif
