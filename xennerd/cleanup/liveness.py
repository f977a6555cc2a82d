# SPDX-License-Identifier: GPL-2.0-or-later
"""Find live domains, and hold a dead domain's number."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from xenner.errors import HostError
from xenner.evtchn import Evtchnd
from xenner.paths import make_runtime_dir, vmcore_path
from xenner.types import Domid
from xenner.vmcores import is_locked, list_domids

_KVM_LINK = "anon_inode:kvm-vm"
# What a guest's process is called: as installed, and as a module.
_PROGRAMS = frozenset(
    {b"xenner", b"xennerd.standalone", b"xenner-start", b"xennerd.domain.start"}
)


class DomainAliveError(Exception):
    """The domain runs, or another process holds its number."""


@dataclass(frozen=True, slots=True)
class LiveDomains:
    """Domains that run: those whose vmcore here has an owner, and those that
    evtchnd knows. `doubt`, if not empty, says why there may be others."""

    locked: frozenset[Domid]
    registered: frozenset[Domid]
    doubt: str = ""

    @property
    def domids(self) -> frozenset[Domid]:
        """All of them."""
        return self.locked | self.registered


def find_live_domains(runtime_dir: Path, evtchnd: Path) -> LiveDomains:
    """Find domains by their locks in the runtime directory, and by evtchnd.

    evtchnd also knows domains with a vmcore elsewhere; if it does not answer,
    a VM process with a vmcore elsewhere is a reason for doubt.
    """
    locked: dict[Domid, tuple[int, int]] = {}
    for domid in list_domids(runtime_dir):
        with suppress(FileNotFoundError):
            if identity := _locked_identity(vmcore_path(runtime_dir, domid)):
                locked[domid] = identity
    known = frozenset(locked)
    try:
        with Evtchnd(evtchnd) as connection:
            return LiveDomains(known, frozenset(connection.domids()))
    except (OSError, HostError):
        unknown = _unknown_vm_processes(frozenset(locked.values()))
    doubt = ""
    if unknown:
        doubt = (
            f"evtchnd does not answer, and process {unknown[0]} may be that "
            "domain"
        )
    return LiveDomains(known, frozenset(), doubt)


def _locked_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a vmcore that has an owner."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise HostError(
            f"cannot look at {path}: {error.strerror}", "run as root"
        ) from error
    try:
        status = os.fstat(fd)
        return (status.st_dev, status.st_ino) if is_locked(fd) else None
    finally:
        os.close(fd)


def _unknown_vm_processes(known: frozenset[tuple[int, int]]) -> list[int]:
    """VM processes that hold none of the `known` vmcores."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _is_vm_process(process):
            held = set(_held_files(process))
            if held and not held & known:
                found.append(int(process.name))
    return sorted(found)


def _is_vm_process(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    names = {os.path.basename(word) for word in words[:4]}
    return bool(names & _PROGRAMS)


def _held_files(process: Path) -> Iterator[tuple[int, int]]:
    """Device and inode of its open files, if it has a virtual machine open."""
    fds = process / "fd"
    try:
        links = [fds / name for name in os.listdir(fds)]
    except OSError:
        return
    if any(_link(link).startswith(_KVM_LINK) for link in links):
        for link in links:
            with suppress(OSError):
                status = link.stat()
                yield status.st_dev, status.st_ino


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


@contextmanager
def domid_held(domid: Domid, runtime_dir: Path) -> Iterator[Path]:
    """Hold a domain's number, as its own VM process would.

    A start of that domain fails meanwhile. DomainAliveError: another process
    holds the number. The path is that of its vmcore: the dead one, or
    an empty file of ours, which is gone after the block in any case.
    """
    path = vmcore_path(runtime_dir, domid)
    make_runtime_dir(runtime_dir)
    with ExitStack() as stack:
        fd, is_ours = _lock(path, domid)
        stack.callback(os.close, fd)
        if is_ours:
            stack.callback(_unlink_if_same, fd, path)
        yield path


def _lock(path: Path, domid: Domid) -> tuple[int, bool]:
    while True:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            fd = os.open(
                path.parent, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _publish(fd, path):
                return fd, True
            os.close(fd)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise DomainAliveError(f"domain {domid} is running") from None
        if is_same(fd, path):
            return fd, False
        os.close(fd)


def _publish(fd: int, path: Path) -> bool:
    """Give our file the name; False: another process took the name."""
    dirfd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(f"/proc/self/fd/{fd}", path.name, dst_dir_fd=dirfd)
    except FileExistsError:
        return False
    finally:
        os.close(dirfd)
    return True


def is_same(fd: int, path: Path) -> bool:
    """Does the path still name the open file?"""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _unlink_if_same(fd: int, path: Path) -> None:
    if is_same(fd, path):
        path.unlink()
