# SPDX-License-Identifier: GPL-2.0-or-later
"""The descriptors behind the tables: doorbells, handles' pages, guests' pages.

A doorbell is an eventfd; both ends of a channel hold the two of it and evtchnd
keeps them for the next end that binds.
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


class Doorbells:
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
            for doorbell in _doorbells(end):
                if doorbell not in self._fds:
                    self._make(doorbell)
                    made.append(doorbell)
        except PortError:
            for doorbell in made:
                os.close(self._fds.pop(doorbell))
            raise

    def adopt(self, end: End, fds: list[int]) -> None:
        """Use descriptors from before a restart; they are duplicated.

        The end is a new one. EINVAL: not as many eventfds as it has doorbells.
        """
        wanted = list(_doorbells(end))
        if len(fds) != len(wanted) or not all(map(is_eventfd, fds)):
            raise PortError(errno.EINVAL)
        for doorbell, fd in zip(wanted, fds, strict=True):
            self._check_room()
            try:
                copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
            except OSError as error:
                raise PortError(error.errno or errno.EMFILE) from error
            if doorbell in self._fds:
                os.close(self._fds[doorbell])
            self._fds[doorbell] = copy

    def fds_of(self, end: End) -> list[int]:
        """In, and out where the end has one of its own."""
        return [self._fds[doorbell] for doorbell in _doorbells(end)]

    def drop(self, end: End) -> None:
        """Close those of an end that is closed and has left no peer."""
        for doorbell in _doorbells(end):
            if doorbell in self._fds:
                os.close(self._fds.pop(doorbell))

    def ring(self, end: End) -> None:
        """Notify the holder of this end. Only for ends of the host's handles:
        a VM process could make its doorbells block."""
        # 2**64 - 2 unread rings are as good as one more.
        with suppress(BlockingIOError):
            os.eventfd_write(self._fds[end.doorbell_in], 1)

    def close(self) -> None:
        """Close all of them."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def _make(self, doorbell: int) -> None:
        self._check_room()
        try:
            self._fds[doorbell] = os.eventfd(
                0, os.EFD_CLOEXEC | os.EFD_NONBLOCK
            )
        except OSError as error:
            raise PortError(error.errno or errno.EMFILE) from error

    def _check_room(self) -> None:
        if len(self._fds) >= self._most:
            raise PortError(errno.ENFILE)


def _doorbells(end: End) -> Iterator[int]:
    if end.doorbell_in:
        yield end.doorbell_in
    if end.doorbell_out and end.doorbell_out != end.doorbell_in:
        yield end.doorbell_out


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
    """struct evtchnd_page of one host's handle, and its doorbell.

    Only the generation is written here; the handle and its peers do the rest.
    """

    def __init__(self, page_id: int, fd: int, doorbell: int) -> None:
        self.page_id = page_id
        self.fd = fd
        self.doorbell = doorbell
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
            doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            on_fail.callback(os.close, doorbell)
            page = cls(page_id, fd, doorbell)
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
            doorbell = fcntl.fcntl(fds[1], fcntl.F_DUPFD_CLOEXEC, 0)
            on_fail.callback(os.close, doorbell)
            page = cls(page_id, fd, doorbell)
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
        os.close(self.doorbell)


@dataclass(slots=True)
class GuestPage:
    """Where a guest's struct emu_pending is, and the irqfd behind it."""

    page_id: int
    fd: int
    doorbell: int
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
            doorbell = fcntl.fcntl(fds[1], fcntl.F_DUPFD_CLOEXEC, 0)
        except OSError:
            os.close(fd)
            raise
        return cls(page_id, fd, doorbell, offset)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)
        os.close(self.doorbell)
