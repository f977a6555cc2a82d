# SPDX-License-Identifier: GPL-2.0-or-later
"""xenner-units: the part of xennerd that has to be root.

It starts guests' units, queries them, and logs their events. It checks every
request: xennerd, its only client, passes on requests of others.
"""

from __future__ import annotations

import argparse
import re
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from xenner import concurrency, service
from xenner.concurrency import run_abandonable
from xenner.errors import HostError
from xenner.journal import Event, Line, Subject
from xenner.listening import open_listener
from xenner.paths import UNITS_SOCKET
from xenner.types import MAX_DOMID, Domid
from xenner.watchdog import feed_watchdog
from xennerd.qmp.client import QmpClient
from xennerd.qmp.commands import Command, Commands
from xennerd.qmp.fds import Caller
from xennerd.qmp.request import Parameter, QmpError
from xennerd.qmp.server import serve_stream
from xennerd.units.manager import Systemd, Units, is_instance

_BACKLOG = 16
_MAX_TEXT = 1000
_LINES = ("text", "name", "device", "reason")
_UUID = re.compile(r"[0-9a-fA-F-]{0,36}")


class Server(Commands):
    """What can be asked; `units` does it."""

    def __init__(self, units: Units) -> None:
        self._units = units
        text = Parameter(str)
        super().__init__(
            {
                "unit-start": Command(self._start, {"instance": text}),
                "query-unit": Command(self._query, {"instance": text}),
                "unit-tell": Command(
                    self._tell,
                    {
                        **dict.fromkeys(
                            ("instance", "event", "uuid", *_LINES), text
                        ),
                        "domid": Parameter(int),
                    },
                ),
            },
            events=(),
        )

    async def _start(self, arguments: dict[str, Any], _caller: Caller) -> Any:
        instance = _instance(arguments)
        try:
            await run_abandonable(self._units.start, instance)
        except HostError as error:
            raise QmpError(str(error)) from None
        return {}

    async def _query(self, arguments: dict[str, Any], _caller: Caller) -> Any:
        outcome = await run_abandonable(
            self._units.outcome, _instance(arguments)
        )
        return {"state": outcome.state, "result": outcome.result}

    def _tell(self, arguments: dict[str, Any], _caller: Caller) -> Any:
        instance = _instance(arguments)
        for name in _LINES:
            if not _is_line(arguments[name]):
                raise QmpError(f"{name}: not one line of text")
        if not _UUID.fullmatch(arguments["uuid"]):
            raise QmpError("uuid: none")
        if not 0 < arguments["domid"] <= MAX_DOMID:
            raise QmpError("domid: none")
        try:
            event = Event(arguments["event"])
        except ValueError:
            raise QmpError("event: none of ours") from None
        text, name, device, reason = (arguments[word] for word in _LINES)
        subject = Subject(Domid(arguments["domid"]), name, arguments["uuid"])
        self._units.log_event(
            instance, subject, Line(event, text, device, reason)
        )
        return {}


def _instance(arguments: dict[str, Any]) -> str:
    instance: str = arguments["instance"]
    if not is_instance(instance):
        raise QmpError(f"instance: no unit can have the name {instance!r}")
    return instance


def _is_line(text: str) -> bool:
    return len(text) <= _MAX_TEXT and text.isprintable()


def _request_once(path: Path) -> None:
    """What xennerd does; the watchdog hears of us when it is answered."""
    with QmpClient(path, server="xenner-units") as client:
        client.execute("query-version")


async def _serve_until_told(path: Path, listener: socket.socket) -> None:
    check_health = partial(run_abandonable, _request_once, path)
    serve = partial(serve_stream, commands=Server(Systemd()))
    stream = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [stream])
            service.notify("READY=1")
            nursery.start_soon(feed_watchdog, check_health)
            async for _number in signals:
                nursery.cancel_scope.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser("xenner-units", description=__doc__)
    parser.add_argument(
        "--socket",
        type=Path,
        default=UNITS_SOCKET,
        metavar="PATH",
        help="where to listen, or what the service manager hands over is",
    )
    path = parser.parse_args(arguments).socket
    try:
        with open_listener(
            path, socket.SOCK_STREAM, mode=0o600, backlog=_BACKLOG
        ) as listener:
            concurrency.run(partial(_serve_until_told, path, listener))
    except HostError as error:
        print(f"xenner-units: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
