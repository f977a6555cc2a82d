# SPDX-License-Identifier: GPL-2.0-or-later
"""Make xenner._xenstore, libxenstore for Python.

libxenstore_build.py OUTPUT.c
"""

import sys
from pathlib import Path

import cffi

# Of xenstore.h, which cffi cannot read: what xenner/libxenstore.py calls.
_DECLARATIONS = """
struct xs_handle;
typedef uint32_t xs_transaction_t;
struct xs_handle *xs_open(unsigned long flags);
void xs_close(struct xs_handle *xsh);
const char *xs_daemon_socket(void);
char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path,
                    unsigned int *num);
void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path,
              unsigned int *len);
bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path,
              const void *data, unsigned int len);
bool xs_watch(struct xs_handle *h, const char *path, const char *token);
bool xs_unwatch(struct xs_handle *h, const char *path, const char *token);
char *xs_get_domain_path(struct xs_handle *h, unsigned int domid);
int xs_fileno(struct xs_handle *h);
char **xs_check_watch(struct xs_handle *h);
xs_transaction_t xs_transaction_start(struct xs_handle *h);
bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abort);
void free(void *data);
"""


def main() -> None:
    output = Path(sys.argv[1])
    builder = cffi.FFI()
    builder.cdef(_DECLARATIONS)
    builder.set_source(
        "xenner._xenstore", "#include <stdlib.h>\n#include <xenstore.h>\n"
    )
    builder.emit_c_code(str(output))
    # cffi leaves an unchanged file alone; the build compares times.
    output.touch()


if __name__ == "__main__":
    main()
