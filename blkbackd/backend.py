# SPDX-License-Identifier: GPL-2.0-or-later
"""All block devices: xenstore says which there are, each has a task."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from blkbackd.vbd import Vbd
from xenner.libxenstore import Store
from xenner.types import Domid

# Below the domain that we run in, as every backend's.
_ROOT = "backend/vbd"
_DEPTH = 4  # parts of a device's path


class Backend:
    """Devices by their paths, and how each is woken."""

    def __init__(self, store: Store, nursery: trio.Nursery) -> None:
        self._store = store
        self._nursery = nursery
        self._wakers: dict[str, Callable[[], None]] = {}
        # A thread for each device that has something to do: a disk that does
        # not answer must not keep the others waiting.
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
        vbd = Vbd(
            self._store,
            path,
            Domid(int(domid)),
            partial(token.run_sync_soon, wake),
        )
        self._nursery.start_soon(self._serve_vbd, vbd, receive)

    async def _serve_vbd(
        self, vbd: Vbd, wakes: trio.MemoryReceiveChannel[None]
    ) -> None:
        run = partial(trio.to_thread.run_sync, limiter=self._limiter)
        try:
            while await run(vbd.step) or _has_come(wakes):
                await wakes.receive()
        finally:
            del self._wakers[vbd.path]
            wakes.close()
            with trio.CancelScope(shield=True):
                await run(vbd.close)


def _has_come(wakes: trio.MemoryReceiveChannel[None]) -> bool:
    """A node changed while the device was taken for gone: look again."""
    return wakes.statistics().current_buffer_used > 0


async def serve_backend(
    store: Store,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve all devices in the store until cancelled. What was taken from
    rings is answered before it returns."""
    async with trio.open_nursery() as nursery:
        backend = Backend(store, nursery)
        store.watch(_ROOT, _ROOT)
        task_status.started()
        while True:
            await trio.lowlevel.wait_readable(store.fileno())
            while (event := store.next_event()) is not None:
                backend.changed(event.path, event.token)
