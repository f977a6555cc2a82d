# SPDX-License-Identifier: GPL-2.0-or-later
"""A device model that gives up all domains but 1, as QEMU does.

It opens a handle of each library, calls Xen's xentoolcore_restrict_all(1)
and says what it still may. A line on its input makes it say so again.
"""

import errno
import mmap
import os
import sys
from typing import Any

from cffi import FFI

ffi = FFI()
ffi.cdef(
    """
    int xentoolcore_restrict_all(uint32_t domid);
    void *xenevtchn_open(void *logger, unsigned int flags);
    int xenevtchn_bind_unbound_port(void *, uint32_t domid);
    int xenevtchn_bind_interdomain(void *, uint32_t domid, uint32_t port);
    int xenevtchn_bind_virq(void *, unsigned int virq);
    int xenevtchn_unbind(void *, uint32_t port);
    int xenevtchn_restrict(void *, uint16_t domid);
    void *xenforeignmemory_open(void *logger, unsigned int flags);
    void *xenforeignmemory_map(void *, uint32_t domid, int prot, size_t count,
                               const uint64_t *frames, int *errors);
    int xenforeignmemory_unmap(void *, void *, size_t);
    void *xengnttab_open(void *logger, unsigned int flags);
    void *xengnttab_map_grant_ref(void *, uint32_t domid, uint32_t ref, int);
    int xengnttab_grant_copy(void *, uint32_t count, void *);
    void *xencall_open(void *logger, unsigned int flags);
    int xencall2(void *, unsigned int op, uint64_t, uint64_t);
    """
)
toolcore: Any = ffi.dlopen("libxentoolcore.so.1", os.RTLD_GLOBAL | os.RTLD_NOW)
evtchn: Any = ffi.dlopen("libxenevtchn.so.1")
foreign: Any = ffi.dlopen("libxenforeignmemory.so.1")
gnttab: Any = ffi.dlopen("libxengnttab.so.1")
call: Any = ffi.dlopen("libxencall.so.1")

XEN_VERSION = 17  # __HYPERVISOR_xen_version
xce = evtchn.xenevtchn_open(ffi.NULL, 0)
fmem = foreign.xenforeignmemory_open(ffi.NULL, 0)
xgt = gnttab.xengnttab_open(ffi.NULL, 0)
xcall = call.xencall_open(ffi.NULL, 0)


def said(result: Any) -> str:
    """ "ok", or the errno's name."""
    failed = result == ffi.NULL if isinstance(result, FFI.CData) else result < 0
    return errno.errorcode[ffi.errno] if failed else "ok"


def map_foreign(domid: int) -> str:
    frames = ffi.new("uint64_t[]", [3000])
    where = foreign.xenforeignmemory_map(
        fmem, domid, mmap.PROT_READ, 1, frames, ffi.NULL
    )
    result = said(where)
    if result == "ok":
        foreign.xenforeignmemory_unmap(fmem, where, 1)
    return result


def rights() -> dict[str, str]:
    return {
        "port 1": said(evtchn.xenevtchn_bind_interdomain(xce, 1, 1)),
        "port 2": said(evtchn.xenevtchn_bind_interdomain(xce, 2, 1)),
        "unbound": said(evtchn.xenevtchn_bind_unbound_port(xce, 1)),
        "virq": said(evtchn.xenevtchn_bind_virq(xce, 3)),
        "page 1": map_foreign(1),
        "page 2": map_foreign(2),
        "grant": said(gnttab.xengnttab_map_grant_ref(xgt, 1, 8, 1)),
        "copy": said(gnttab.xengnttab_grant_copy(xgt, 0, ffi.NULL)),
        "call": said(call.xencall2(xcall, XEN_VERSION, 0, 0)),
        "restrict": said(evtchn.xenevtchn_restrict(xce, 2)),
    }


old = evtchn.xenevtchn_bind_unbound_port(xce, 2)
assert old > 0, "a port of before"
assert map_foreign(2) == "ok"
print(toolcore.xentoolcore_restrict_all(1), rights(), flush=True)
sys.stdin.readline()
# A handle waits a second for an evtchnd that has just been started.
while said(evtchn.xenevtchn_bind_unbound_port(xce, 1)) in (
    "EAGAIN",
    "ECONNREFUSED",
):
    pass
print(rights(), flush=True)
# What it had before it may give up.
print(evtchn.xenevtchn_unbind(xce, old), flush=True)
