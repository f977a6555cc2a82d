# SPDX-License-Identifier: GPL-2.0-or-later
"""All network devices: xenstore says which there are, each has a task."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from netbackd import tap
from netbackd.status import serve_status
from netbackd.vif import Vif
from xenner.libxenstore import Store
from xenner.types import Domid

_log = logging.getLogger("netbackd")

# Below the domain that we run in, as every backend's.
_ROOT = "backend/vif"
_DEPTH = 4  # parts of a device's path
_RTMGRP_LINK = 1  # linux/rtnetlink.h
_MESSAGE_BYTES = 65536


class Backend:
    """Devices by their paths, and how each is woken."""

    def __init__(self, store: Store, nursery: trio.Nursery) -> None:
        self._store = store
        self._nursery = nursery
        self._wakers: dict[str, Callable[[], None]] = {}
        self._vifs: dict[str, Vif] = {}
        # A thread for each device that has something to do: a script that does
        # not end must not keep the others waiting.
        self._limiter = trio.CapacityLimiter(1024)

    def changed(self, path: str, token: str) -> None:
        """A watch fired. The root's own names no device or one of them, a
        frontend's has its device as the token."""
        if token != _ROOT:
            if token in self._wakers:
                self._wakers[token]()
            return
        parts = path.split("/")
        if len(parts) >= _DEPTH:
            self._wake("/".join(parts[:_DEPTH]))
            return
        for device in [*self._wakers, *self._listed()]:
            if f"{device}/".startswith(f"{path}/"):
                self._wake(device)

    def statistics(self) -> dict[str, dict[str, int]]:
        """The counters of each device, by its path."""
        return {path: vif.statistics() for path, vif in self._vifs.items()}

    def links_changed(self) -> None:
        """Interfaces of the host have come, gone or changed."""
        for vif in self._vifs.values():
            vif.links_changed()

    def remove_stale(self) -> None:
        """Remove the taps of devices that went while nobody served them.
        Blocks."""
        for name, path in tap.our_taps().items():
            if self._store.read(f"{path}/state") is None:
                _log.info("%s: its device %s is no more", name, path)
                tap.remove_tap(name)

    def _listed(self) -> list[str]:
        return [
            f"{_ROOT}/{domid}/{device}"
            for domid in self._store.children(_ROOT)
            for device in self._store.children(f"{_ROOT}/{domid}")
        ]

    def _wake(self, path: str) -> None:
        if path in self._wakers:
            self._wakers[path]()
            return
        domid = path.split("/")[2]
        if not domid.isdigit():
            return
        send, receive = trio.open_memory_channel[None](1)
        token = trio.lowlevel.current_trio_token()

        def wake() -> None:
            # It is going to look anyway, or never again.
            with suppress(trio.WouldBlock, trio.BrokenResourceError):
                send.send_nowait(None)

        self._wakers[path] = wake
        vif = Vif(
            self._store,
            path,
            Domid(int(domid)),
            partial(token.run_sync_soon, wake),
        )
        self._vifs[path] = vif
        self._nursery.start_soon(self._serve_vif, vif, receive)

    async def _serve_vif(
        self, vif: Vif, wakes: trio.MemoryReceiveChannel[None]
    ) -> None:
        run = partial(trio.to_thread.run_sync, limiter=self._limiter)
        try:
            while await run(vif.step) or _has_come(wakes):
                await wakes.receive()
        finally:
            del self._wakers[vif.path], self._vifs[vif.path]
            wakes.close()
            with trio.CancelScope(shield=True):
                await run(vif.close)


def _has_come(wakes: trio.MemoryReceiveChannel[None]) -> bool:
    """A node changed while the device was taken for gone: look again."""
    return wakes.statistics().current_buffer_used > 0


async def _watch_links(backend: Backend) -> None:
    """rtnetlink(7): a message for each interface that changes."""
    with trio.socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
    ) as links:
        await links.bind((0, _RTMGRP_LINK))
        while True:
            # Too many to be kept: something has changed for sure.
            with suppress(OSError):
                await links.recv(_MESSAGE_BYTES)
            backend.links_changed()


async def serve_backend(
    store: Store,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve all devices in the store until cancelled. What was taken from
    rings is answered before it returns."""
    async with trio.open_nursery() as nursery:
        backend = Backend(store, nursery)
        await trio.to_thread.run_sync(backend.remove_stale)
        nursery.start_soon(_watch_links, backend)
        await nursery.start(serve_status, backend.statistics)
        store.watch(_ROOT, _ROOT)
        task_status.started()
        while True:
            await trio.lowlevel.wait_readable(store.fileno())
            while (event := store.next_event()) is not None:
                backend.changed(event.path, event.token)
