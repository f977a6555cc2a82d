# SPDX-License-Identifier: GPL-2.0-or-later
"""The domain table: which live, and what becomes of one that is killed.

Nothing of it is ours alone: each domain has its record beside its memory, so
an xennerd that is started anew knows what the one before knew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import trio

from xenner.concurrency import run_abandonable
from xenner.errors import ConfigError, HostError
from xenner.journal import Line
from xenner.libxenstore import Store
from xenner.types import Domid
from xenner.vmcores import is_owned
from xennerd.cleanup.classify import LivesError
from xennerd.domain.policy import Verdict
from xennerd.domain.records import (
    Record,
    list_records,
    read_record,
    remove_record,
    write_record,
)
from xennerd.supervisor.connections import ROOT, Connections
from xennerd.supervisor.events import Tell
from xennerd.supervisor.launcher import Launcher, Order
from xennerd.supervisor.processes import Watched

_STORE_RETRY_S = 1.0
_TAKEN_RETRY_S = 1.0
_RESTART_TRIES = 5
_RESTART_WAIT_S = 2.0

_log = logging.getLogger("xennerd")

Emit = Callable[..., None]
"""Of an event's name and its data; see Commands.emit()."""


class Undertaker(Protocol):
    """See aftermath.Aftermath."""

    def settle(self, record: Record, *, is_stop_requested: bool) -> Verdict: ...


class Domains:
    """A task for each that lives, until it ends."""

    def __init__(
        self,
        runtime_dir: Path,
        *,
        launcher: Launcher,
        aftermath: Undertaker,
        tell: Tell,
        emit: Emit,
    ) -> None:
        self._runtime_dir = runtime_dir
        self._launcher = launcher
        self._aftermath = aftermath
        self._emit = emit
        self._tell_story = tell
        self._watched: dict[Domid, int] = {}
        self._buried: set[Domid] = set()
        self._connections = Connections(partial(read_record, runtime_dir), tell)
        self._wakes, self._woken = trio.open_memory_channel[None](1)

    def is_any_alive(self) -> bool:
        """Is there a guest that needs the daemons? One that we are burying
        is locked, by us."""
        return any(
            self.is_alive(record)
            for record in self.records()
            if record.domid not in self._buried
        )

    def records(self) -> list[Record]:
        """Of those that live, those that stay, and those that were killed a
        moment ago."""
        return list_records(self._runtime_dir)

    def is_alive(self, record: Record) -> bool:
        """Has its memory an owner?"""
        return is_owned(self._runtime_dir / f"vmcore.{record.domid}")

    def look(self) -> None:
        """There may be a domain that is not watched yet."""
        with suppress(trio.WouldBlock):
            self._wakes.send_nowait(None)

    async def follow(self) -> None:
        """Watch all domains, those that come included, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_store)
            while True:
                for record in self.records():
                    self._begin(record, nursery)
                await self._woken.receive()

    async def start(self, order: Order) -> None:
        """HostError or ConfigError: it does not start."""
        await run_abandonable(self._launcher.start, order)
        self.look()

    async def tell(self, record: Record, line: Line) -> None:
        """In the story of a domain."""
        await run_abandonable(self._tell_story, record, line)

    async def _follow_store(self) -> None:
        """xenstore says when a domain has come, and when a device is
        connected; a store that is started anew is asked anew."""
        while True:
            try:
                with Store() as store:
                    # A store that does not answer keeps only this waiting.
                    await trio.to_thread.run_sync(_watch, store)
                    while True:
                        await trio.lowlevel.wait_readable(store.fileno())
                        # A node that changed twice is looked at once.
                        changed: dict[str, None] = {}
                        while (event := store.next_event()) is not None:
                            if event.token == ROOT:
                                changed[event.path] = None
                            else:
                                self.look()
                        for path in changed:
                            await trio.to_thread.run_sync(
                                self._connections.changed, store, path
                            )
            except (HostError, OSError):
                await trio.sleep(_STORE_RETRY_S)

    def _begin(self, record: Record, nursery: trio.Nursery) -> None:
        if record.end or self._watched.get(record.domid) == record.pid:
            return
        self._watched[record.domid] = record.pid
        nursery.start_soon(self._see_through, record)

    async def _see_through(self, record: Record) -> None:
        """From now to the domain's end, and what follows from it."""
        with suppress(ProcessLookupError):
            await self._wait_ended(record)
        try:
            await self._take_end(record)
        except (ConfigError, HostError, OSError) as error:
            # What stands there is for xenner-cleanup: we do not try again.
            _log.error("%s: %s", record.name, error)
            return
        if self._watched.get(record.domid) == record.pid:
            del self._watched[record.domid]

    async def _wait_ended(self, record: Record) -> None:
        watched = Watched(record.pid)
        try:
            # The number of a process that was killed may be another's now.
            if self.is_alive(record):
                self._tell("DOMAIN_STARTED", record)
                await watched.wait_ended()
        finally:
            watched.close()

    async def _take_end(self, record: Record) -> None:
        left = read_record(self._runtime_dir, record.domid)
        if left is None or left.end or left.pid != record.pid:
            self._tell("DOMAIN_ENDED", record, end=left.end if left else "")
            self._launcher.forget(record)
            return
        self._tell("DOMAIN_ENDED", record, end="killed")
        self._buried.add(record.domid)
        try:
            await run_abandonable(self._settle, left)
        except LivesError:
            # Its number is somebody's: a start, or a look by xenner-cleanup.
            await trio.sleep(_TAKEN_RETRY_S)
        except (ConfigError, HostError, OSError):
            self._buried.discard(record.domid)
            raise
        # Not when we are told to end: its thread has the number until then.
        self._buried.discard(record.domid)
        self.look()

    def _settle(self, record: Record) -> None:
        is_stop_requested = record.is_unwanted or (
            bool(record.unit) and self._launcher.was_asked(record)
        )
        verdict = self._aftermath.settle(
            record, is_stop_requested=is_stop_requested
        )
        if not verdict.restarts:
            self._launcher.forget(record)
            return
        self._start_again(
            Order(
                name=record.name,
                file=Path(record.file),
                text=record.text,
                settings=record.settings,
                domid=record.domid,
                unit=record.unit,
                is_again=True,
            ),
            record,
        )

    def _start_again(self, order: Order, record: Record) -> None:
        """What it needs may just be starting itself: not only once."""
        for nr_left in reversed(range(_RESTART_TRIES)):
            # Its next process goes on with what stands there.
            write_record(self._runtime_dir, record)
            try:
                self._launcher.start(order)
            except (ConfigError, HostError) as error:
                remove_record(self._runtime_dir, record.domid)
                if isinstance(error, ConfigError) or not nr_left:
                    raise
                _log.warning("%s: %s: once more", record.name, error)
            else:
                return
            time.sleep(_RESTART_WAIT_S)

    def _tell(self, event: str, record: Record, **data: Any) -> None:
        self._emit(event, domid=record.domid, name=record.name, **data)


def _watch(store: Store) -> None:
    store.watch("@introduceDomain", "domains")
    store.watch(ROOT, ROOT)
