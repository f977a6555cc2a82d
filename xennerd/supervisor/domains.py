# SPDX-License-Identifier: GPL-2.0-or-later
"""The domain table: watch the live domains, restart the killed ones.

It has no state of its own: each domain has a record beside its memory, so a
restarted xennerd knows what the previous one knew.
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
from xenner.paths import vmcore_path
from xenner.types import Domid
from xenner.vmcorelocks import DomainAliveError, is_owned
from xennerd.domain.policy import Verdict
from xennerd.domain.records import (
    Record,
    list_records,
    read_record,
    remove_record,
    write_record,
)
from xennerd.supervisor.connections import ROOT, Connections
from xennerd.supervisor.events import LogEvent
from xennerd.supervisor.launcher import Launcher, StartRequest
from xennerd.supervisor.processes import Watched

_STORE_RETRY_S = 1.0
_TAKEN_RETRY_S = 1.0
_RESTART_TRIES = 5
_RESTART_WAIT_S = 2.0

_log = logging.getLogger("xennerd")

Emit = Callable[..., None]
"""Takes an event's name and its data; see Commands.emit()."""


class KilledHandler(Protocol):
    """See crash_handler.CrashHandler."""

    def handle(self, record: Record, *, is_stop_requested: bool) -> Verdict: ...


class Domains:
    """Runs a task for each live domain until its end."""

    def __init__(
        self,
        runtime_dir: Path,
        *,
        launcher: Launcher,
        crash_handler: KilledHandler,
        log_event: LogEvent,
        emit: Emit,
    ) -> None:
        self._runtime_dir = runtime_dir
        self._launcher = launcher
        self._crash_handler = crash_handler
        self._emit = emit
        self._log_event = log_event
        self._watched: dict[Domid, int] = {}
        self._handled: set[Domid] = set()
        self._connections = Connections(
            partial(read_record, runtime_dir), log_event
        )
        self._wakes, self._woken = trio.open_memory_channel[None](1)

    def is_any_alive(self) -> bool:
        """Is there a guest that needs the daemons? The vmcore of a domain that
        is being handled has an owner too: this process."""
        return any(
            self.is_alive(record)
            for record in self.records()
            if record.domid not in self._handled
        )

    def records(self) -> list[Record]:
        """The records of live and preserved domains, and of domains that were
        killed a moment ago."""
        return list_records(self._runtime_dir)

    def is_alive(self, record: Record) -> bool:
        """Does a process own its vmcore?"""
        return is_owned(vmcore_path(self._runtime_dir, record.domid))

    def rescan(self) -> None:
        """Look for domains that are not watched yet."""
        with suppress(trio.WouldBlock):
            self._wakes.send_nowait(None)

    async def watch(self) -> None:
        """Watch all domains, new ones included, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_store)
            while True:
                for record in self.records():
                    self._start_watching(record, nursery)
                await self._woken.receive()

    async def start(self, request: StartRequest) -> None:
        """HostError or ConfigError: the start failed."""
        await run_abandonable(self._launcher.start, request)
        self.rescan()

    async def log_event(self, record: Record, line: Line) -> None:
        """Log an event of a domain."""
        await run_abandonable(self._log_event, record, line)

    async def _watch_store(self) -> None:
        """Watch xenstore for new domains and for devices that connect.
        Connects again when the store restarts."""
        while True:
            try:
                with Store() as store:
                    # A store that does not answer blocks only this task.
                    await trio.to_thread.run_sync(_set_watches, store)
                    while True:
                        await trio.lowlevel.wait_readable(store.fileno())
                        # A node that changed twice is read once.
                        changed: dict[str, None] = {}
                        while (event := store.next_event()) is not None:
                            if event.token == ROOT:
                                changed[event.path] = None
                            else:
                                self.rescan()
                        for path in changed:
                            await trio.to_thread.run_sync(
                                self._connections.changed, store, path
                            )
            except (HostError, OSError):
                await trio.sleep(_STORE_RETRY_S)

    def _start_watching(self, record: Record, nursery: trio.Nursery) -> None:
        if record.end or self._watched.get(record.domid) == record.pid:
            return
        self._watched[record.domid] = record.pid
        nursery.start_soon(self._watch_domain, record)

    async def _watch_domain(self, record: Record) -> None:
        """Wait for the domain's end and handle it."""
        with suppress(ProcessLookupError):
            await self._wait_ended(record)
        try:
            await self._handle_end(record)
        except (ConfigError, HostError, OSError) as error:
            # Not again: the rest is left to xenner-cleanup.
            _log.error("%s: %s", record.name, error)
            return
        if self._watched.get(record.domid) == record.pid:
            del self._watched[record.domid]

    async def _wait_ended(self, record: Record) -> None:
        watched = Watched(record.pid)
        try:
            # If the process was killed, its number may be reused by now.
            if self.is_alive(record):
                self._emit_event("DOMAIN_STARTED", record)
                await watched.wait_ended()
        finally:
            watched.close()

    async def _handle_end(self, record: Record) -> None:
        left = read_record(self._runtime_dir, record.domid)
        if left is None or left.end or left.pid != record.pid:
            self._emit_event(
                "DOMAIN_ENDED", record, end=left.end if left else ""
            )
            self._launcher.forget(record)
            return
        self._emit_event("DOMAIN_ENDED", record, end="killed")
        self._handled.add(record.domid)
        try:
            await run_abandonable(self._handle_killed, left)
        except DomainAliveError:
            # Another process owns the number: a start, or xenner-cleanup.
            await trio.sleep(_TAKEN_RETRY_S)
        except (ConfigError, HostError, OSError):
            self._handled.discard(record.domid)
            raise
        # Not in a finally: after a cancellation the thread still owns it.
        self._handled.discard(record.domid)
        self.rescan()

    def _handle_killed(self, record: Record) -> None:
        is_stop_requested = record.is_unwanted or (
            bool(record.unit) and self._launcher.was_stop_requested(record)
        )
        verdict = self._crash_handler.handle(
            record, is_stop_requested=is_stop_requested
        )
        if not verdict.restarts:
            self._launcher.forget(record)
            return
        self._restart(
            StartRequest(
                name=record.name,
                file=Path(record.file),
                text=record.text,
                settings=record.settings,
                domid=record.domid,
                unit=record.unit,
                is_restart=True,
            ),
            record,
        )

    def _restart(self, request: StartRequest, record: Record) -> None:
        """Try several times: what the guest needs may be starting as well."""
        for nr_left in reversed(range(_RESTART_TRIES)):
            # The next process reads the record.
            write_record(self._runtime_dir, record)
            try:
                self._launcher.start(request)
            except (ConfigError, HostError) as error:
                remove_record(self._runtime_dir, record.domid)
                if isinstance(error, ConfigError) or not nr_left:
                    raise
                _log.warning("%s: %s: once more", record.name, error)
            else:
                return
            time.sleep(_RESTART_WAIT_S)

    def _emit_event(self, event: str, record: Record, **data: Any) -> None:
        self._emit(event, domid=record.domid, name=record.name, **data)


def _set_watches(store: Store) -> None:
    store.watch("@introduceDomain", "domains")
    store.watch(ROOT, ROOT)
