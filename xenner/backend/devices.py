# SPDX-License-Identifier: GPL-2.0-or-later
"""All devices of a kind: xenstore says which there are, each has a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol

import trio

from xenner.backend.status import Counters, Value
from xenner.libxenstore import Store
from xenner.types import MAX_DOMID, Domid

_DEPTH = 4  # parts of a device's path


class Served(Protocol):
    """What a device's task does with it; see device.Device."""

    def step(self) -> bool: ...

    def close(self) -> None: ...

    def statistics(self) -> Mapping[str, Value]: ...

    def host_changed(self) -> None: ...

    def try_again(self) -> None: ...


MakeDevice = Callable[[Store, str, Domid, Callable[[], None]], Served]
"""Of store, path, domid and what wakes its task, from any thread."""


class Devices:
    """Devices by their paths, and how each is woken."""

    def __init__(
        self,
        store: Store,
        nursery: trio.Nursery,
        kind: str,
        make_device: MakeDevice,
    ) -> None:
        """`kind`: "vbd", "vif"."""
        self._store = store
        self._nursery = nursery
        # Below the domain that we run in, as every backend's.
        self.root = f"backend/{kind}"
        self._make_device = make_device
        self._wakers: dict[str, Callable[[], None]] = {}
        self._served: dict[str, Served] = {}
        # A thread for each device that has something to do: a disk that does
        # not answer, or a script that does not end, must not keep the others
        # waiting.
        self._limiter = trio.CapacityLimiter(1024)

    def changed(self, path: str, token: str) -> None:
        """A watch fired. The root's own names no device or one of them, a
        frontend's has its device as the token."""
        if token != self.root:
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

    def host_changed(self) -> None:
        """Something has changed that is in no node. In any thread."""
        for device in [*self._served.values()]:
            device.host_changed()

    def try_again(self) -> None:
        """What the host was short of it may have now. In any thread."""
        for device in [*self._served.values()]:
            device.try_again()

    def statistics(self) -> Counters:
        """The counters of each device, by its path."""
        return {
            path: device.statistics() for path, device in self._served.items()
        }

    def _listed(self) -> list[str]:
        return [
            f"{self.root}/{domid}/{device}"
            for domid in self._store.children(self.root)
            for device in self._store.children(f"{self.root}/{domid}")
        ]

    def _wake(self, path: str) -> None:
        if path in self._wakers:
            self._wakers[path]()
            return
        domid = path.split("/")[2]
        if not domid.isdigit() or int(domid) > MAX_DOMID:
            return
        send, receive = trio.open_memory_channel[None](1)
        token = trio.lowlevel.current_trio_token()

        def wake() -> None:
            # It is going to look anyway, or never again.
            with suppress(trio.WouldBlock, trio.BrokenResourceError):
                send.send_nowait(None)

        self._wakers[path] = wake
        self._served[path] = self._make_device(
            self._store,
            path,
            Domid(int(domid)),
            partial(token.run_sync_soon, wake),
        )
        self._nursery.start_soon(self._serve, path, receive)

    async def _serve(
        self, path: str, wakes: trio.MemoryReceiveChannel[None]
    ) -> None:
        device = self._served[path]
        run = partial(trio.to_thread.run_sync, limiter=self._limiter)
        try:
            while await run(device.step) or _has_come(wakes):
                await wakes.receive()
        finally:
            del self._wakers[path], self._served[path]
            wakes.close()
            with trio.CancelScope(shield=True):
                await run(device.close)


def _has_come(wakes: trio.MemoryReceiveChannel[None]) -> bool:
    """A node changed while the device was taken for gone: look again."""
    return wakes.statistics().current_buffer_used > 0


async def follow_store(
    store: Store,
    devices: Devices,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve all devices of the kind in the store until cancelled."""
    store.watch(devices.root, devices.root)
    task_status.started()
    while True:
        await trio.lowlevel.wait_readable(store.fileno())
        while (event := store.next_event()) is not None:
            devices.changed(event.path, event.token)
