# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that is a guest's memory: made, mapped and removed here.

At any moment the file is a valid ELF core (corefile.py). Its name appears
only when it is complete and disappears with its owner, who has its lock
(xenner/vmcorelocks.py): what a killed process left is recognised and removed
by the next start of that domain.
"""

import errno
import logging
import mmap
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from xenner import abi
from xenner.errors import HostError
from xenner.paths import filesystem_of, make_runtime_dir, vmcore_path
from xenner.types import Domid
from xenner.vmcorelocks import (
    PreservedError,
    is_preserved,
    open_nameless,
    publish,
    remove_dead,
    taken_pages,
    unlink_if_named,
)
from xennerd.vm.memory.corefile import (
    NOTE_BYTES,
    KernelView,
    Registers,
    core_header,
    prstatus_note,
)
from xennerd.vm.memory.layout import PAGE_BYTES, MachineLayout

_CLEAR_BYTES = 256 << 10

_log = logging.getLogger(__name__)


class DomidTakenError(HostError):
    """A living process has the vmcore of that domid."""


class Vmcore:
    """A guest's memory, open and mapped; open_vmcore() makes it.

    `mem` maps the whole file: machine address == index. It may be handed to
    KVM (its address through a buffer) until open_vmcore()'s block ends.
    """

    def __init__(
        self,
        path: Path,
        fd: int,
        *,
        mem: mmap.mmap,
        layout: MachineLayout,
        nr_vcpus: int,
    ) -> None:
        self.path = path
        self.fd = fd
        self.mem = mem
        self.layout = layout
        self.nr_vcpus = nr_vcpus

    def set_registers(self, vcpu: int, registers: Registers) -> None:
        """Show a stopped or crashed vCPU's registers in the core."""
        if not 0 <= vcpu < self.nr_vcpus:
            raise ValueError(f"no vCPU {vcpu}")
        at = abi.VMCORE_NOTES_GPA + vcpu * NOTE_BYTES
        self.mem[at : at + NOTE_BYTES] = prstatus_note(vcpu, registers)

    def set_view(self, view: KernelView | None) -> None:
        """Show the guest's first pages at the kernel's addresses as well."""
        page = core_header(self.layout, nr_vcpus=self.nr_vcpus, view=view)
        self.mem[: len(page)] = page

    def clear(self) -> None:
        """Zero the guest's memory for a new start; the headers stay valid.

        No vCPU may run meanwhile. Raises HostError if the host cannot give
        the memory back again. What others may have mapped is never a hole:
        the tables that all look into, and pages that somebody holds.
        """
        guest_gpa = self.layout.guest_mfn * PAGE_BYTES
        with _room_for(self.fd, self.path.parent, self.layout):
            self._write_zeros(abi.EMU_IMAGE_GPA, guest_gpa - abi.EMU_IMAGE_GPA)
            for extent in self.layout.extents(0, self.layout.guest_nr_pages):
                self._clear_range(
                    extent.mfn * PAGE_BYTES, extent.nr_pages * PAGE_BYTES
                )
        for vcpu in range(self.nr_vcpus):
            self.set_registers(vcpu, Registers())
        _reserve(self.fd, self.path.parent, self.layout)

    def give_back(self, start: int, size_bytes: int) -> bool:
        """Make a range holes, unless another process holds part of it."""
        with taken_pages(self.fd, start, size_bytes) as is_ours:
            if is_ours:
                self.mem.madvise(mmap.MADV_REMOVE, start, size_bytes)
            return is_ours

    def _clear_range(self, start: int, size_bytes: int) -> None:
        if self.give_back(start, size_bytes):
            return
        for at in range(start, start + size_bytes, _CLEAR_BYTES):
            length = min(_CLEAR_BYTES, start + size_bytes - at)
            if not self.give_back(at, length):
                self._write_zeros(at, length)

    def _write_zeros(self, start: int, size_bytes: int) -> None:
        for at in range(start, start + size_bytes, _CLEAR_BYTES):
            length = min(_CLEAR_BYTES, start + size_bytes - at)
            # Not through the mapping: a page that is a hole may find no room.
            os.pwrite(self.fd, bytes(length), at)


@contextmanager
def open_vmcore(
    domid: Domid,
    *,
    layout: MachineLayout,
    nr_vcpus: int,
    runtime_dir: Path,
) -> Iterator[Vmcore]:
    """Own `vmcore.<domid>` in `runtime_dir` for the length of the block.

    All the pages that the guest has are reserved, so that touching one later
    cannot fail.
    Raises HostError: the domain runs already, no room, no such directory.
    """
    path = vmcore_path(runtime_dir, domid)
    with ExitStack() as always:
        _make_directory(runtime_dir)
        # First, because a dead process's memory may be the room we need.
        _remove_dead(path, domid)
        fd = _open_nameless(runtime_dir)
        always.callback(os.close, fd)
        _check_room(runtime_dir, fd, layout=layout)
        _reserve(fd, runtime_dir, layout)
        mem = always.enter_context(mmap.mmap(fd, layout.size_bytes))
        # A core dump of this process need not repeat the vmcore.
        mem.madvise(mmap.MADV_DONTDUMP)
        vmcore = Vmcore(path, fd, mem=mem, layout=layout, nr_vcpus=nr_vcpus)
        vmcore.set_view(None)
        for vcpu in range(nr_vcpus):
            vmcore.set_registers(vcpu, Registers())
        _publish(fd, path=path, domid=domid)
        always.callback(_unlink_unless_preserved, vmcore)
        yield vmcore


def _make_directory(runtime_dir: Path) -> None:
    try:
        make_runtime_dir(runtime_dir)
    except OSError as error:
        raise HostError(
            f"cannot use the runtime directory {runtime_dir}: {error.strerror}",
            "create it, or name another one",
        ) from error


def _open_nameless(runtime_dir: Path) -> int:
    try:
        fd = open_nameless(runtime_dir)
        # The directory's group serves domains: its set-group-ID bit says so.
        if runtime_dir.stat().st_mode & stat.S_ISGID:
            os.fchmod(fd, 0o660)
        return fd
    except OSError as error:
        hint = "a tmpfs is needed there"
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "run as root, or name a directory that you may write to"
        raise HostError(
            f"cannot create a vmcore in {runtime_dir}: {error.strerror}", hint
        ) from error


def _remove_dead(path: Path, domid: Domid) -> None:
    """Remove a vmcore whose process is gone; HostError if it is not, or if
    the domain stays."""
    try:
        if remove_dead(path):
            _log.info("removed %s of a process that is gone", path)
    except BlockingIOError as error:
        raise DomidTakenError(
            f"domain {domid} is running already ({path} is in use)",
            "choose another domid or end that domain",
        ) from error
    except PreservedError as error:
        raise DomidTakenError(
            f"domain {domid} has ended and stays ({path})",
            f"xennerctl destroy {domid} removes it",
        ) from error
    except OSError as error:
        raise HostError(
            f"cannot look at {path}: {error.strerror}", "remove it by hand"
        ) from error


def _publish(fd: int, *, path: Path, domid: Domid) -> None:
    """Give the finished file its name, unless a living one has it."""
    while not publish(fd, path):
        _remove_dead(path, domid)


def _unlink_unless_preserved(vmcore: Vmcore) -> None:
    if not is_preserved(os.fstat(vmcore.fd)):
        unlink_if_named(vmcore.fd, vmcore.path)


def _check_room(runtime_dir: Path, fd: int, *, layout: MachineLayout) -> None:
    """Refuse now what would end in SIGXFSZ, SIGBUS or the OOM killer."""
    needed = sum(size_bytes for _gpa, size_bytes in layout.start_ranges())
    limit, _hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit not in (resource.RLIM_INFINITY,) and limit < layout.size_bytes:
        raise HostError(
            f"the file size limit of {limit >> 20} MiB is below the "
            f"{layout.size_bytes >> 20} MiB of a vmcore",
            "raise it (ulimit -f, LimitFSIZE=)",
        )
    if filesystem_of(os.fstat(fd)) != "tmpfs":
        _log.warning(
            "%s is not on a tmpfs: guest memory there is written to disk",
            runtime_dir,
        )
    else:
        available = _available_memory_bytes()
        if available is not None and available < needed:
            raise HostError(
                f"{needed >> 20} MiB are needed for the guest, but this host "
                f"has {available >> 20} MiB of memory left",
                "give the guest less memory",
            )
    room = os.fstatvfs(fd)
    free_bytes = room.f_bavail * room.f_frsize
    # A tmpfs mounted with size=0 has no limit and reports no blocks.
    if room.f_blocks and free_bytes < needed:
        raise _no_room(runtime_dir, needed, free_bytes)


def _no_room(runtime_dir: Path, needed: int, free_bytes: int) -> HostError:
    return HostError(
        f"not enough room in {runtime_dir}: the vmcore needs "
        f"{needed >> 20} MiB, {free_bytes >> 20} MiB are free",
        "give the guest less memory or enlarge it: "
        "mount -o remount,size=... on that tmpfs",
    )


def _reserve(fd: int, runtime_dir: Path, layout: MachineLayout) -> None:
    """Set the file's size and have every page allocated that is there from
    the start."""
    with _room_for(fd, runtime_dir, layout):
        os.ftruncate(fd, layout.size_bytes)
        for gpa, size_bytes in layout.start_ranges():
            os.posix_fallocate(fd, gpa, size_bytes)


@contextmanager
def _room_for(
    fd: int, runtime_dir: Path, layout: MachineLayout
) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT):
            raise HostError(
                f"cannot reserve memory in {runtime_dir}: {error.strerror}"
            ) from error
        room = os.fstatvfs(fd)
        free_bytes = room.f_bavail * room.f_frsize
        raise _no_room(runtime_dir, layout.size_bytes, free_bytes) from error


def _available_memory_bytes() -> int | None:
    """Memory and swap that could be had, from proc_meminfo(5)."""
    fields = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) * 1024
    if "MemAvailable" not in fields:
        return None
    return fields["MemAvailable"] + fields.get("SwapFree", 0)
