# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves the console's bytes between the guest's ring and a sink."""

import logging
import os
from collections.abc import Callable

import trio

from xennerd.vm.console.console import LAST_WORDS_S, LeaveConsole, Sink
from xennerd.vm.console.ring import OUT_BYTES, ConsoleRing

_log = logging.getLogger("xenner.console")

_RETRY_S = 1.0
# How long the ring is left alone after output: time to fill a part of it.
_MORE_S = 0.004
# The guest rings from so many waiting bytes on: for each notification, when
# there is half a ring of them, when there are more than a ring holds.
_ALWAYS, _HALF_FULL, _NEVER = 0, OUT_BYTES // 2, OUT_BYTES + 1


class ConsolePump:
    """One console of one running guest.

    `wake_fd` is the eventfd that the guest's notifications signal, `notify`
    raises the console's event channel in the guest, and `set_doorbell` says
    from how many waiting bytes on it notifies: the guest goes by it when the
    call returns. The ring is the only buffer: nothing is taken from it that
    the sink has not room for.
    """

    def __init__(
        self,
        ring: ConsoleRing,
        sink: Sink,
        *,
        wake_fd: int,
        notify: Callable[[], None],
        set_doorbell: Callable[[int], None],
    ) -> None:
        self.ring = ring
        self._sink = sink
        self._wake_fd = wake_fd
        self._notify = notify
        self._set_doorbell = set_doorbell
        # Output is drained by serve_output and, at the end, by flush.
        self._draining = trio.Lock()
        self._has_warned = False
        self._waiting_for_room = trio.lowlevel.ParkingLot()

    async def serve_output(self) -> None:
        """Drain the ring at each notification until cancelled."""
        while True:
            await self._wait_rung()
            while await self._watch():
                pass

    async def _wait_rung(self) -> None:
        await trio.lowlevel.wait_readable(self._wake_fd)
        # In this order: what is rung for after the look is not of before it.
        self._set_doorbell(_NEVER)
        os.eventfd_read(self._wake_fd)

    async def _watch(self) -> bool:
        """Look into the ring until nothing has come for a while: who writes
        line after line does not ring for each of them. Is there more now?"""
        while await self._drain():
            # The guest may also have read what was typed.
            self._waiting_for_room.unpark_all()
            self._set_doorbell(_HALF_FULL)
            with trio.move_on_after(_MORE_S):
                await self._wait_rung()
        self._set_doorbell(_ALWAYS)
        self._waiting_for_room.unpark_all()
        return self.ring.has_output()

    async def serve_input(self) -> None:
        """Type into the guest until the sink has no more to say."""
        while data := await self._receive():
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

    async def _receive(self) -> bytes:
        try:
            return await self._sink.receive()
        except LeaveConsole as left:
            # Leaving does not wait for a guest that does not read.
            if self.ring.put_input(left.typed):
                self._notify()
            raise

    async def flush(self) -> None:
        """The guest's last words, for a reader that still reads."""
        with trio.move_on_after(LAST_WORDS_S):
            await self._drain()

    async def _drain(self) -> bool:
        """Has there been anything?"""
        has_been = False
        async with self._draining:
            while data := self.ring.take_output():
                has_been = True
                if len(data) >= OUT_BYTES // 2:
                    # There is room in the ring now; a guest may wait for it.
                    # One that had it all the time is not interrupted: to
                    # Linux that costs more than the line that it has written.
                    self._notify()
                await self._sink.send(data)
        if self.ring.nr_bad_indices and not self._has_warned:
            self._has_warned = True
            _log.warning("the guest wrote impossible console ring indices")
        return has_been
