# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves the console's bytes between the guest's ring and a sink."""

import logging
import os
from collections.abc import Callable

import trio

from xennerd.vm.console import Sink
from xennerd.vm.consolering import ConsoleRing

_log = logging.getLogger("xenner.console")

_LAST_WORDS_S = 2.0
_RETRY_S = 1.0


class ConsolePump:
    """One console of one running guest.

    `wake_fd` is the eventfd that the guest's notifications signal, `notify`
    raises the console's event channel in the guest. The ring is the only
    buffer: nothing is taken from it that the sink has not room for.
    """

    def __init__(
        self,
        ring: ConsoleRing,
        sink: Sink,
        *,
        wake_fd: int,
        notify: Callable[[], None],
    ) -> None:
        self.ring = ring
        self._sink = sink
        self._wake_fd = wake_fd
        self._notify = notify
        # Output is drained by serve_output and, at the end, by flush.
        self._draining = trio.Lock()
        self._has_warned = False
        self._waiting_for_room = trio.lowlevel.ParkingLot()

    async def serve_output(self) -> None:
        """Drain the ring at each notification until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._wake_fd)
            os.eventfd_read(self._wake_fd)
            # It may also say that the guest has read what was typed.
            self._waiting_for_room.unpark_all()
            await self._drain()

    async def serve_input(self) -> None:
        """Type into the guest until the sink has no more to say."""
        while data := await self._sink.receive():
            while True:
                count = self.ring.put_input(data)
                if count:
                    self._notify()
                data = data[count:]
                if not data:
                    break
                # A guest that reads says so; some guests may forget to.
                with trio.move_on_after(_RETRY_S):
                    await self._waiting_for_room.park()

    async def flush(self) -> None:
        """The guest's last words, for a reader that still reads."""
        with trio.move_on_after(_LAST_WORDS_S):
            await self._drain()

    async def _drain(self) -> None:
        async with self._draining:
            while data := self.ring.take_output():
                # There is room in the ring now; a guest may wait for it.
                self._notify()
                await self._sink.send(data)
        if self.ring.nr_bad_indices and not self._has_warned:
            self._has_warned = True
            _log.warning("the guest wrote impossible console ring indices")
