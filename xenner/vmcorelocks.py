# SPDX-License-Identifier: GPL-2.0-or-later
"""The locks on a vmcore: who has a domain's number, and who has its pages.

The owner's is an exclusive flock(2) on the file. A VM process has it before the
file gets its name, and until it ends: however it was killed, the kernel lets
go, so a vmcore that nobody owns is a dead one's. Nothing else says who lives.

Whoever cleans up behind a domain takes the same lock (domid_held()), on the
dead one's file or on an empty one of his own: the number cannot come to life
meanwhile. Who only looks tries a shared lock, and lets go at once. By the time
one has a lock the name may be another file's: names_file() looks again.

A dead domain that is preserved keeps its number without an owner: nobody may
write to its file any more.

Pages have locks of their own, on their bytes. A page that a guest gives back
becomes a hole; a process that has it mapped would allocate it anew by a touch,
and end by SIGBUS where there is no room. So a mapper has a shared lock of the
page's bytes, a VM process an exclusive one while it makes holes. Both are locks
of open files (F_OFD_SETLK of fcntl_locking(2)): the kernel lets go of a dead
mapper's, and a mapping keeps the one of the file that it was made through.
libs/client/vmcore.h does the same in C.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from xenner.errors import HostError
from xenner.paths import make_runtime_dir, vmcore_path
from xenner.types import MAX_DOMID, Domid

_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FLOCK = struct.Struct("@hhqqi0q")
_NR_TRIES, _PAUSE_S = 1000, 50e-6


class DomainAliveError(Exception):
    """The domain runs, or another process holds its number."""


class PreservedError(Exception):
    """The domain is dead, and keeps its number."""


# --- who has it ---------------------------------------------------------------


def is_locked(fd: int) -> bool:
    """Has the file's owner its lock? It is as it was afterwards."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def is_owned(path: Path) -> bool:
    """Is there such a vmcore, and does its owner live? One that is not ours
    to read has none that we know of."""
    try:
        fd = os.open(path, _LOOK)
    except OSError:
        return False
    try:
        return is_locked(fd)
    finally:
        os.close(fd)


def owned_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a vmcore that has an owner. FileNotFoundError: there
    is none; HostError: it is not ours to read."""
    try:
        fd = os.open(path, _LOOK)
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


class LockOwners:
    """The processes that have files' locks at one moment, by the kernel's word,
    proc_locks(5): what a process says itself may be anything, and one that
    hangs says nothing.

    It is read once: guests' pages in use are locks too, by the thousand.
    """

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        for line in Path("/proc/locks").read_text().splitlines():
            match line.split()[1:6]:
                case ["FLOCK", _, "WRITE", pid, place]:
                    self._pids[place] = max(0, int(pid))

    def of(self, status: os.stat_result) -> int:
        """0: none that this process may see."""
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        return self._pids.get(f"{device}:{status.st_ino}", 0)


def find_free_domid(runtime_dir: Path) -> Domid:
    """The lowest domid from 1 that has no vmcore of a living process, nor of
    a dead one that stays.

    Only a hint: taking the lock decides, and may lose a race for it.
    HostError: there is none.
    """
    for domid in range(1, MAX_DOMID + 1):
        if not _is_taken(vmcore_path(runtime_dir, Domid(domid))):
            return Domid(domid)
    raise HostError(f"no domid is free in {runtime_dir}")


def _is_taken(path: Path) -> bool:
    try:
        fd = os.open(path, _LOOK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # Not ours to read: somebody's, so not free.
    try:
        return is_locked(fd) or is_preserved(os.fstat(fd))
    finally:
        os.close(fd)


def preserve(path: Path) -> None:
    """Let a dead domain's file stay, with its number, until it is removed."""
    path.chmod(0o400)


def is_preserved(status: os.stat_result) -> bool:
    """Does it stay? Then nobody writes to it."""
    return not status.st_mode & stat.S_IWUSR


# --- to have it ---------------------------------------------------------------


def open_nameless(runtime_dir: Path) -> int:
    """A file to be a vmcore, ours already; it vanishes with us unless it is
    given a name (O_TMPFILE). OSError."""
    flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
    fd = os.open(runtime_dir, flags, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def publish(fd: int, path: Path) -> bool:
    """Give our file the name; False: another process took the name."""
    dirfd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # linkat(2) with a directory: plain link(2) would link the link.
        os.link(f"/proc/self/fd/{fd}", path.name, dst_dir_fd=dirfd)
    except FileExistsError:
        return False
    finally:
        os.close(dirfd)
    return True


def remove_dead(path: Path) -> bool:
    """Remove a vmcore without an owner. False: it is gone already, or another
    one by now. BlockingIOError: it has an owner; PreservedError; OSError: it is
    not ours to look at."""
    try:
        fd = os.open(path, _LOOK)
    except FileNotFoundError:
        return False
    try:
        _lock_dead(fd)
        if is_preserved(os.fstat(fd)):
            raise PreservedError
        return unlink_if_named(fd, path)
    finally:
        os.close(fd)


def _lock_dead(fd: int) -> None:
    """Lock a vmcore without an owner; BlockingIOError if it has one.

    An owner's lock is exclusive. A shared one is somebody's who only looks,
    and is gone in a moment.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_EX)


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
        fd, is_ours = _hold(path, domid)
        stack.callback(os.close, fd)
        if is_ours:
            stack.callback(unlink_if_named, fd, path)
        yield path


def _hold(path: Path, domid: Domid) -> tuple[int, bool]:
    while True:
        try:
            fd = os.open(path, _LOOK)
        except FileNotFoundError:
            fd = open_nameless(path.parent)
            if publish(fd, path):
                return fd, True
            os.close(fd)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise DomainAliveError(f"domain {domid} is running") from None
        if names_file(path, fd):
            return fd, False
        os.close(fd)


def names_file(path: Path, fd: int) -> bool:
    """Does the path still name the open file?"""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def unlink_if_named(fd: int, path: Path) -> bool:
    """Removed by hand meanwhile, or even replaced: then it is not ours."""
    if not names_file(path, fd):
        return False
    path.unlink(missing_ok=True)
    return True


# --- pages --------------------------------------------------------------------


def hold_pages(fd: int, start: int, size_bytes: int) -> None:
    """Keep a range there for as long as `fd` or a mapping made of it lives.

    What had been given back gets zeros. OSError: no room for them, or the
    VM process keeps the range for itself.
    """
    for _ in range(_NR_TRIES):
        if _lock(fd, fcntl.F_RDLCK, start, size_bytes):
            break
        time.sleep(_PAUSE_S)
    else:
        raise OSError(errno.EAGAIN, "the pages are being given back")
    os.posix_fallocate(fd, start, size_bytes)


@contextmanager
def taken_pages(fd: int, start: int, size_bytes: int) -> Iterator[bool]:
    """Is a range nobody else's for the length of the block?

    One thread at a time: the locks of one open file are one owner's.
    """
    is_ours = _lock(fd, fcntl.F_WRLCK, start, size_bytes)
    try:
        yield is_ours
    finally:
        if is_ours:
            _lock(fd, fcntl.F_UNLCK, start, size_bytes)


def _lock(fd: int, kind: int, start: int, size_bytes: int) -> bool:
    wanted = _FLOCK.pack(kind, os.SEEK_SET, start, size_bytes, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
