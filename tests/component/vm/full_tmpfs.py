# SPDX-License-Identifier: GPL-2.0-or-later
"""A mapper of a guest's pages on a full tmpfs; argv[1] is its directory.

The mapper is Xen's libraries as the daemons load them, the guest what a
hostile one asks of the real balloon. A touch that finds no memory ends this
program by SIGBUS.
"""

import errno
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

from xenner import abi
from xenner.abi import ffi as xenner_ffi
from xenner.types import Domid
from xennerd.vm.memory.balloon import Balloon
from xennerd.vm.memory.layout import machine_layout
from xennerd.vm.memory.vmcore import Vmcore, open_vmcore
from xenstored.guests import Guests

LIBS = Path(__file__).resolve().parents[3] / "build/meson/libs"
LAYOUT = machine_layout(256)
FIRST = LAYOUT.guest_mfn
PAGE = 4096
GRANTED = 0x1 | 0 << 16  # GTF_permit_access, to domain 0
WRITABLE = mmap.PROT_READ | mmap.PROT_WRITE

ffi = FFI()
ffi.cdef(
    """
    typedef struct xengntdev_handle xengnttab_handle;
    xengnttab_handle *xengnttab_open(void *logger, unsigned int flags);
    void *xengnttab_map_domain_grant_refs(xengnttab_handle *, uint32_t count,
        uint32_t domid, uint32_t *refs, int prot);
    int xengnttab_unmap(xengnttab_handle *, void *, uint32_t count);
    int xengnttab_close(xengnttab_handle *);
    void *xenner_gnttab_map_batch(xengnttab_handle *, uint32_t count,
        uint32_t domid, const uint32_t *refs, int prot, void **addresses);
    void xenner_gnttab_unmap_batch(xengnttab_handle *, void *batch);
    typedef struct xenforeignmemory_handle xenforeignmemory_handle;
    xenforeignmemory_handle *xenforeignmemory_open(void *, unsigned int);
    void *xenforeignmemory_map(xenforeignmemory_handle *, uint32_t domid,
        int prot, size_t count, const uint64_t *frames, int *errors);
    int xenforeignmemory_unmap(xenforeignmemory_handle *, void *, size_t);
    """
)
grants: Any = ffi.dlopen(str(LIBS / "libxengnttab.so.1"))
foreign: Any = ffi.dlopen(str(LIBS / "libxenforeignmemory.so.1"))


class Guest:
    """The domain, and the tmpfs that others fill up to the last page."""

    def __init__(self, vmcore: Vmcore) -> None:
        self.vmcore = vmcore
        self.balloon = Balloon(vmcore)
        self._filler = vmcore.path.parent / "filler"
        self._filled = 0

    def grant(self, ref: int, page: int) -> None:
        at = abi.GRANT_FRAMES_GPA + ref * 8
        entry = GRANTED | (FIRST + page) << 32
        self.vmcore.mem[at : at + 8] = entry.to_bytes(8, "little")

    def give(self, *pages: int) -> None:
        made = xenner_ffi.new("struct emu_request *")
        made.arg[0] = abi.EMU_BALLOON_GIVE
        data = b"".join((FIRST + n).to_bytes(8, "little") for n in pages)
        made.length = len(data)
        xenner_ffi.memmove(made.data, data, len(data))
        self.balloon.perform(made)
        assert made.result == 0, made.result

    def fill(self) -> None:
        """Others take all the room that there is."""
        with self._filler.open("ab") as file:
            while True:
                try:
                    os.posix_fallocate(file.fileno(), self._filled, PAGE)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return
                self._filled += PAGE

    def make_room(self) -> None:
        """And let go of some."""
        self._filled -= 64 * PAGE
        os.truncate(self._filler, self._filled)

    def marks(self, *refs: int) -> list[int]:
        """The first words of those grants."""
        words = memoryview(self.vmcore.mem).cast("I")
        return [words[(abi.GRANT_FRAMES_GPA + ref * 8) // 4] for ref in refs]

    def used_pages(self) -> int:
        return os.fstat(self.vmcore.fd).st_blocks * 512 // PAGE


def bytes_at(address: Any, nr_pages: int) -> Any:
    assert address != ffi.NULL, os.strerror(ffi.errno)
    return ffi.buffer(address, nr_pages * PAGE)


def check_grants(guest: Guest) -> None:
    """Pages 0 to 3 by themselves, 8 and 9 as a run, 40 given back before."""
    for ref, page in enumerate((0, 1, 2, 3, 8, 9, 40)):
        guest.vmcore.mem[(FIRST + page) * PAGE] = 0x5A
        guest.grant(20 + ref, page)
    xgt = grants.xengnttab_open(ffi.NULL, 0)

    def map_refs(*refs: int) -> Any:
        return grants.xengnttab_map_domain_grant_refs(
            xgt, len(refs), 1, ffi.new("uint32_t[]", refs), WRITABLE
        )

    ones = [map_refs(ref) for ref in (20, 21, 22, 23)]
    run, scattered = map_refs(24, 25), map_refs(25, 20)
    guest.give(40, 100)
    guest.fill()
    gone = map_refs(26, 20)
    assert bytes_at(gone, 2)[0] == b"\0"
    assert bytes_at(gone, 2)[PAGE] == b"\x5a"
    bytes_at(gone, 2)[1] = b"x"

    guest.give(*range(64))
    guest.fill()
    for one in ones:
        bytes_at(one, 1)[1] = b"x"
    bytes_at(run, 2)[PAGE] = b"x"
    assert bytes_at(scattered, 2)[0] == b"x"
    for address, count in [(one, 1) for one in ones] + [(run, 2)]:
        assert grants.xengnttab_unmap(xgt, address, count) == 0
    assert grants.xengnttab_unmap(xgt, scattered, 2) == 0
    assert grants.xengnttab_unmap(xgt, gone, 2) == 0
    assert grants.xengnttab_close(xgt) == 0


def check_batch(guest: Guest) -> None:
    """Of three pages the last was given back: what there is no room for
    is asked for again, and what is mapped stays."""
    for ref, page in enumerate((120, 122, 121)):
        guest.vmcore.mem[(FIRST + page) * PAGE] = 0x5A
        guest.grant(40 + ref, page)
    xgt = grants.xengnttab_open(ffi.NULL, 0)
    addresses = ffi.new("void *[3]")

    def map_batch(count: int) -> Any:
        refs = ffi.new("uint32_t[]", (40, 41, 42))
        return grants.xenner_gnttab_map_batch(
            xgt, count, 1, refs, WRITABLE, addresses
        )

    guest.give(121)
    guest.fill()
    assert map_batch(3) == ffi.NULL
    assert ffi.errno == errno.ENOMEM
    assert guest.marks(40, 41, 42) == [GRANTED] * 3
    batch = map_batch(2)
    guest.give(120, 122, 130)
    guest.fill()
    for address in addresses[0:2]:
        assert bytes_at(address, 1)[0] == b"\x5a"
        bytes_at(address, 1)[1] = b"x"
    grants.xenner_gnttab_unmap_batch(xgt, batch)
    guest.make_room()
    batch = map_batch(3)
    assert bytes_at(addresses[2], 1)[0] == b"\0"
    grants.xenner_gnttab_unmap_batch(xgt, batch)
    assert grants.xengnttab_close(xgt) == 0


def check_owed(guest: Guest) -> None:
    """What was held goes when nobody holds it any more."""
    before = guest.used_pages()
    guest.give(200)
    assert guest.used_pages() < before - 1, "what was owed did not go"


def check_foreign(guest: Guest) -> None:
    fmem = foreign.xenforeignmemory_open(ffi.NULL, 0)
    frames = [FIRST + page for page in (220, 221, 230, 20)]
    for count in (3, 4):  # page 20 is gone, and there is no room for it
        made = ffi.new("uint64_t[]", frames[:count])
        guest.fill()
        for errors in (ffi.NULL, ffi.new("int[]", count)):
            address = foreign.xenforeignmemory_map(
                fmem, 1, WRITABLE, count, made, errors
            )
            guest.give(220, 221, 222, 230)
            guest.fill()
            for page in range(count):
                bytes_at(address, count)[page * PAGE] = b"x"
            foreign.xenforeignmemory_unmap(fmem, address, count)


def check_store(guest: Guest) -> None:
    """The store's own mapping of a ring."""
    # The channel is not needed: the page is mapped before it.
    store = Guests(None, guest.vmcore.path.parent)  # type: ignore[arg-type]
    ring = store._map_page(1, FIRST + 250)
    guest.give(250, 251)
    guest.fill()
    ring[5] = 1
    with pytest.raises(OSError, match="No space left"):
        store._map_page(1, FIRST + 251)
    guest.vmcore._clear_range(FIRST * PAGE, 256 * PAGE)
    guest.fill()
    assert ring[5] == 0
    ring[5] = 1


def main(directory: Path) -> None:
    os.environ["XENNER_RUNTIME_DIR"] = str(directory)
    with open_vmcore(
        Domid(1), layout=LAYOUT, nr_vcpus=1, runtime_dir=directory
    ) as vmcore:
        guest = Guest(vmcore)
        check_grants(guest)
        check_batch(guest)
        check_owed(guest)
        check_foreign(guest)
        check_store(guest)
    print("PASS", flush=True)


main(Path(sys.argv[1]))
