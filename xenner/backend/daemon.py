# SPDX-License-Identifier: GPL-2.0-or-later
"""The program around a backend: its options, its signals, its end."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from xenner import concurrency
from xenner.backend.devices import Devices, MakeDevice, follow_store
from xenner.backend.status import (
    Form,
    fetch_status,
    socket_path,
    to_table,
)
from xenner.backend.statusserver import serve_status
from xenner.concurrency import run_abandonable
from xenner.errors import ConfigError, HostError
from xenner.journallog import set_up_logging
from xenner.libxenstore import Store
from xenner.service import notify
from xenner.settings import load_settings
from xenner.watchdog import feed_watchdog


@dataclass(frozen=True, slots=True)
class Backend:
    """A daemon that serves one kind of device."""

    description: str
    form: Form
    make_device: MakeDevice
    begin: Callable[[Store], None] | None = None
    """Blocks; before the first device is served. HostError."""
    beside: Callable[[Devices], Awaitable[None]] | None = None
    """Runs beside the devices."""


def run_backend(
    backend: Backend, arguments: Sequence[str] | None = None
) -> int:
    """The program; returns its exit status."""
    name = backend.form.daemon
    parser = _parser(backend)
    options = parser.parse_args(arguments)
    if (options.json or options.prometheus) and not options.status:
        parser.error("--json and --prometheus are forms of --status")
    try:
        if options.status:
            print(_status(backend.form, options))
        else:
            _serve(backend)
    except (HostError, ConfigError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _parser(backend: Backend) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        backend.form.daemon, description=backend.description
    )
    parser.add_argument(
        "--status",
        action="store_true",
        help="show what the running daemon has moved, and end",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same as JSON")
    form.add_argument(
        "--prometheus", action="store_true", help="in Prometheus' text format"
    )
    return parser


def _status(form: Form, options: argparse.Namespace) -> str:
    counters = fetch_status(form.daemon)
    if options.json:
        return json.dumps(counters)
    if options.prometheus:
        from xenner.backend.prometheus import to_prometheus

        return to_prometheus(counters, form)
    return to_table(counters, form)


def _serve(backend: Backend) -> None:
    set_up_logging(backend.form.daemon, load_settings().level)
    failed: BaseException | None = None
    try:
        with Store() as store:
            concurrency.run(partial(_serve_until_told, backend, store))
    except* HostError as group:
        failed = group
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    if failed is not None:
        raise failed


async def _serve_until_told(backend: Backend, store: Store) -> None:
    """What was taken from rings is answered before it returns."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await _start(backend, store, nursery)
            notify("READY=1")
            check_health = partial(
                run_abandonable, fetch_status, backend.form.daemon
            )
            nursery.start_soon(feed_watchdog, check_health)
            async for _number in signals:
                nursery.cancel_scope.cancel()


async def _start(backend: Backend, store: Store, nursery: trio.Nursery) -> None:
    form = backend.form
    devices = Devices(store, nursery, form.kind, backend.make_device)
    # First: where it cannot be, another one serves the devices.
    path = socket_path(form.daemon)
    await nursery.start(serve_status, path, devices.statistics)
    if backend.begin is not None:
        await trio.to_thread.run_sync(backend.begin, store)
    if backend.beside is not None:
        nursery.start_soon(backend.beside, devices)
    await nursery.start(follow_store, store, devices)
