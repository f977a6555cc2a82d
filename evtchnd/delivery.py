# SPDX-License-Identifier: GPL-2.0-or-later
"""The descriptors behind the tables: bells, handles' pages, guests' pages.

A bell is an eventfd; both ends of a channel hold the two of it and evtchnd
keeps them for whoever binds next.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from evtchnd.ports import End, PortError
from xenner import abi

_PAGE_BYTES = abi.sizeof("evtchnd_page")
_EVENTFD = "anon_inode:[eventfd]"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Bells:
    """Eventfds by the numbers that `End` has for them, `most` at the most."""

    def __init__(self, *, most: int) -> None:
        self._fds: dict[int, int] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._fds)

    def open(self, end: End) -> None:
        """Make those that an end has and that are not there yet.

        Raises PortError (ENFILE: `most` are open; EMFILE, ENOMEM); then none
        has been made.
        """
        made: list[int] = []
        try:
            for bell in _bells(end):
                if bell not in self._fds:
                    self._make(bell)
                    made.append(bell)
        except PortError:
            for bell in made:
                os.close(self._fds.pop(bell))
            raise

    def adopt(self, end: End, fds: list[int]) -> None:
        """Use descriptors from before a restart; they are duplicated.

        The end is a new one. EINVAL: not as many eventfds as it has bells.
        """
        wanted = list(_bells(end))
        if len(fds) != len(wanted) or not all(map(is_eventfd, fds)):
            raise PortError(errno.EINVAL)
        for bell, fd in zip(wanted, fds, strict=True):
            self._check_room()
            try:
                copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
            except OSError as error:
                raise PortError(error.errno or errno.EMFILE) from error
            if bell in self._fds:
                os.close(self._fds[bell])
            self._fds[bell] = copy

    def fds_of(self, end: End) -> list[int]:
        """In, and out where the end has one of its own."""
        return [self._fds[bell] for bell in _bells(end)]

    def drop(self, end: End) -> None:
        """Close those of an end that is closed and has left no peer."""
        for bell in _bells(end):
            if bell in self._fds:
                os.close(self._fds.pop(bell))

    def ring(self, end: End) -> None:
        """Tell who holds this end. Only for ends of the host's handles: a
        VM process could make its bells block."""
        # 2**64 - 2 unread rings are as good as one more.
        with suppress(BlockingIOError):
            os.eventfd_write(self._fds[end.bell_in], 1)

    def close(self) -> None:
        """Close all of them."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def _make(self, bell: int) -> None:
        self._check_room()
        try:
            self._fds[bell] = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            raise PortError(error.errno or errno.EMFILE) from error

    def _check_room(self) -> None:
        if len(self._fds) >= self._most:
            raise PortError(errno.ENFILE)


def _bells(end: End) -> Iterator[int]:
    if end.bell_in:
        yield end.bell_in
    if end.bell_out and end.bell_out != end.bell_in:
        yield end.bell_out


def is_eventfd(fd: int) -> bool:
    """Is this descriptor one of eventfd(2)?"""
    return os.readlink(f"/proc/self/fd/{fd}") == _EVENTFD


def _is_sealed(fd: int) -> bool:
    """Is it a memfd of a page's size, for ever (memfd_create(2))?"""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return False
    return seals & _SEALS == _SEALS and os.fstat(fd).st_size == _PAGE_BYTES


class HandlePage:
    """struct evtchnd_page of one host's handle, and its bell.

    Only the generation is written here; the handle and its peers do the rest.
    """

    def __init__(self, page_id: int, fd: int, bell: int) -> None:
        self.page_id = page_id
        self.fd = fd
        self.bell = bell
        self._head = mmap.mmap(fd, mmap.PAGESIZE)

    @classmethod
    def make(cls, page_id: int) -> HandlePage:
        """An empty one. OSError: no room for it."""
        with ExitStack() as on_fail:
            fd = os.memfd_create(
                "evtchnd-page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
            )
            on_fail.callback(os.close, fd)
            os.ftruncate(fd, _PAGE_BYTES)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            on_fail.callback(os.close, bell)
            page = cls(page_id, fd, bell)
            on_fail.pop_all()
            return page

    @classmethod
    def adopt(cls, page_id: int, fds: list[int]) -> HandlePage:
        """One that an evtchnd before this one made; the fds are duplicated.

        EINVAL: it is none, or could shrink under us.
        """
        if len(fds) != 2 or not is_eventfd(fds[1]) or not _is_sealed(fds[0]):
            raise PortError(errno.EINVAL)
        with ExitStack() as on_fail:
            fd = fcntl.fcntl(fds[0], fcntl.F_DUPFD_CLOEXEC, 0)
            on_fail.callback(os.close, fd)
            bell = fcntl.fcntl(fds[1], fcntl.F_DUPFD_CLOEXEC, 0)
            on_fail.callback(os.close, bell)
            page = cls(page_id, fd, bell)
            on_fail.pop_all()
            return page

    def move_generation(self) -> None:
        """Have the handle ask again about its ports' peers."""
        # One aligned store: a reader sees the old or the new number.
        with memoryview(self._head) as head, head.cast("I") as words:
            words[0] = (words[0] + 1) & 0xFFFF_FFFF

    def close(self) -> None:
        """Let go of it; the handle and its peers may still have it."""
        self._head.close()
        os.close(self.fd)
        os.close(self.bell)


@dataclass(slots=True)
class GuestPage:
    """Where a guest's struct emu_pending is, and the irqfd behind it."""

    page_id: int
    fd: int
    bell: int
    offset: int

    @classmethod
    def adopt(
        cls, page_id: int, fds: list[int], *, offset: int, nr_bytes: int
    ) -> GuestPage:
        """From a VM process's vmcore and eventfd, which are duplicated.

        EINVAL: something else, or no whole structure at `offset` bytes.
        """
        if len(fds) != 2 or not is_eventfd(fds[1]) or offset % 64:
            raise PortError(errno.EINVAL)
        if offset + nr_bytes > os.fstat(fds[0]).st_size:
            raise PortError(errno.EINVAL)
        fd = fcntl.fcntl(fds[0], fcntl.F_DUPFD_CLOEXEC, 0)
        try:
            bell = fcntl.fcntl(fds[1], fcntl.F_DUPFD_CLOEXEC, 0)
        except OSError:
            os.close(fd)
            raise
        return cls(page_id, fd, bell, offset)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)
        os.close(self.bell)
