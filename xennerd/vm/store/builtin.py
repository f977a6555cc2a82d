# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's own xenstore, where nobody beside this process has one for it.

It is the same store (xenstored), in a thread of this process and for this
guest alone. A guest that never asks for anything costs nothing: the store is
loaded and made when its ring is rung for the first time, or when somebody
here wants something of it. Until then there is the ring's page.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from xenner.errors import HostError
from xennerd.nodes.guest import Guest
from xenstored.ringpage import offer_features

if TYPE_CHECKING:
    from xenstored.loop import StoreLoop
    from xenstored.store import Store

_T = TypeVar("_T")

_ANSWER_LIMIT_S = 10.0
_SHUTDOWN = "control/shutdown"
_TARGET = "memory/target"


@dataclass(frozen=True, slots=True)
class RingEnds:
    """Of a guest's ring: its page, the eventfd that the guest's notification
    writes, and what notifies the guest."""

    page: memoryview
    kick_fd: int
    notify: Callable[[], None]


class OwnStore:
    """The store of one guest, through its reboots: each finds a new one."""

    def __init__(self) -> None:
        self._life: _Life | None = None

    @contextmanager
    def introduced(self, guest: Guest, ends: RingEnds) -> Iterator[None]:
        """The guest's ring is a store's; all of `ends` stays the caller's."""
        offer_features(ends.page)
        self._life = life = _Life(guest, ends)
        try:
            yield
        finally:
            self._life = None
            life.close()

    async def serve(self) -> None:
        """Answer the guest that is introduced, until cancelled."""
        if self._life is not None:
            await self._life.serve()

    def request_shutdown(self, request: str) -> None:
        self._current().write(_SHUTDOWN, request)

    def is_request_watched(self) -> bool:
        life = self._current()
        return life.is_open and life.is_watched(_SHUTDOWN)

    def is_request_taken(self) -> bool:
        return not self._current().read(_SHUTDOWN)

    def set_memory_target(self, kib: int) -> None:
        self._current().write(_TARGET, str(kib))

    def vbd_nodes(self) -> dict[int, dict[str, str]]:
        """None: what serves a disk has a xenstore beside it."""
        return {}

    def _current(self) -> _Life:
        life = self._life
        if life is None:
            raise HostError("the guest is not running")
        return life


class _Life:
    """From a start of day to the guest's end."""

    def __init__(self, guest: Guest, ends: RingEnds) -> None:
        self._guest = guest
        self._ends = ends
        self._opening = threading.Lock()
        self._loop: StoreLoop | None = None
        self._has_run = False

    @property
    def is_open(self) -> bool:
        """Has anybody wanted anything of it yet?"""
        return self._loop is not None

    async def serve(self) -> None:
        await trio.lowlevel.wait_readable(self._ends.kick_fd)
        loop = await trio.to_thread.run_sync(self._opened)

        async def stop_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                loop.stop()

        def run() -> None:
            self._has_run = True
            loop.run()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_when_cancelled)
            # It returns after `stop`, whatever trio would have it do.
            limiter = trio.CapacityLimiter(1)
            await trio.to_thread.run_sync(run, limiter=limiter)

    def close(self) -> None:
        """What was made and never served lets go of what it has."""
        with self._opening:
            if self._loop is not None and not self._has_run:
                self._loop.stop()
                self._loop.run()

    def write(self, name: str, value: str) -> None:
        """Give a node of the guest's a value, as domain 0."""
        from xennerd.vm.store.building import write

        self._call(lambda store: write(store, self._path(name), value))

    def read(self, name: str) -> str:
        """A node of the guest's; empty where it is not there."""
        from xennerd.vm.store.building import read

        return self._call(lambda store: read(store, self._path(name)))

    def is_watched(self, name: str) -> bool:
        """Does the guest itself watch a node of its own?"""
        from xennerd.vm.store.building import is_watched

        domid = self._guest.domid
        return self._call(
            lambda store: is_watched(store, self._path(name), domid)
        )

    def _path(self, name: str) -> str:
        return f"/local/domain/{self._guest.domid}/{name}"

    def _opened(self) -> StoreLoop:
        # Only now: a start need not wait for these modules.
        from xennerd.vm.store.building import make_loop

        with self._opening:
            if self._loop is None:
                self._loop = make_loop(self._guest, self._ends)
            return self._loop

    def _call(self, function: Callable[[Store], _T]) -> _T:
        """Have the store's thread do it; blocks. HostError: it does not."""
        loop = self._opened()
        done = threading.Event()
        results: list[_T] = []

        def run() -> None:
            results.append(function(loop.store))
            done.set()

        try:
            loop.call(run)
        except RuntimeError as error:
            raise HostError("xenstore: the guest has ended") from error
        # As if the guest had rung: that has it served.
        os.eventfd_write(self._ends.kick_fd, 1)
        if not done.wait(_ANSWER_LIMIT_S):
            raise HostError("xenstore: no answer")
        return results[0]
