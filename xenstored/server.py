# SPDX-License-Identifier: GPL-2.0-or-later
"""The store for trio: a task that runs the loop's thread and is its handle."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from xenner.types import Domid
from xenstored.loop import OpenRing, StoreLoop
from xenstored.requests import handle
from xenstored.statefile import StateFile
from xenstored.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Numbers of the moment."""

    nr_nodes: int
    nr_domains: int
    nr_starts: int
    """Restarts that this store's state has survived."""


class StoreHandle:
    """What the rest of a daemon asks of its store, from trio."""

    def __init__(self, loop: StoreLoop) -> None:
        self._loop = loop

    async def introduce(self, domid: Domid, *, gfn: int, port: int) -> None:
        """As INTRODUCE does; OSError if the ring cannot be had."""
        await self._ask(lambda store: store.introduce(domid, gfn, port))

    async def release(self, domid: Domid) -> None:
        """The domain is gone: its nodes go, @releaseDomain fires."""

        def release(store: Store) -> None:
            if domid in store.domains:
                store.release(domid)

        await self._ask(release)

    async def domids(self) -> list[Domid]:
        """The guests that are introduced."""

        def domids(store: Store) -> list[Domid]:
            return [Domid(domid) for domid in store.domains if domid]

        return await self._ask(domids)

    async def shut_down(self, domid: Domid) -> None:
        """The domain has ended and is still there: @releaseDomain fires."""
        await self._ask(lambda store: store.shut_down(domid))

    async def resume(self) -> bool:
        """Try to open the rings of domains from before a restart; False: some
        are not back at evtchnd yet."""
        return await self._ask(lambda _: self._loop.resume())

    async def add_guest(self, client: socket.socket, domid: Domid) -> None:
        """Serve a stream socket with the rights of a guest; takes it over."""
        add = self._loop.add_client
        await self._ask(lambda store: add(client, domid, is_guest=True))

    async def statistics(self) -> StoreStatistics:
        return await self._ask(
            lambda store: StoreStatistics(
                nr_nodes=sum(store.tree.nr_nodes.values()),
                nr_domains=len(store.domains),
                nr_starts=store.nr_starts,
            )
        )

    async def _ask(self, function: Callable[[Store], T]) -> T:
        """Run a function in the loop's thread; its result or OSError."""
        token = trio.lowlevel.current_trio_token()
        done = trio.Event()
        results: list[T] = []
        errors: list[OSError] = []

        def run() -> None:
            try:
                results.append(function(self._loop.store))
            except OSError as error:
                errors.append(error)
            token.run_sync_soon(done.set)

        self._loop.call(run)
        await done.wait()
        if errors:
            raise errors[0]
        return results[0]


async def serve_store(
    listener: socket.socket | None,
    *,
    state: StateFile | None = None,
    open_ring: OpenRing | None = None,
    task_status: trio.TaskStatus[StoreHandle] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; starts with a handle.

    `listener` is a listening Unix stream socket for privileged clients, which
    the caller keeps; who may connect is a matter of its file's mode.
    """
    store = Store(handle) if state is None else state.store
    store.write_dom0()
    loop = StoreLoop(store, listener, state=state, open_ring=open_ring)

    async def stop_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            loop.stop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_when_cancelled)
        task_status.started(StoreHandle(loop))
        # It returns after `stop`, whatever trio would have it do.
        await trio.to_thread.run_sync(loop.run, limiter=trio.CapacityLimiter(1))
