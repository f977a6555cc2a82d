# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that a server offers, and the events that it emits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from xennerd.qmp.fds import Caller
from xennerd.qmp.request import (
    Parameter,
    Request,
    check_arguments,
    command_not_found,
)

VERSION = {
    "qemu": {"major": 0, "minor": 1, "micro": 0},
    "package": "xenner",
}
_LAST_WORDS_S = 1.0


class Listener(Protocol):
    """A client that receives events."""

    def post(self, message: dict[str, Any]) -> None: ...

    async def wait_idle(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Command:
    """`run` takes the checked arguments and the caller, and returns the answer
    or an awaitable of it. QmpError: the command failed."""

    run: Callable[[dict[str, Any], Caller], Any]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


def without_arguments(run: Callable[[], Any]) -> Command:
    """A command that takes none."""
    return Command(lambda _arguments, _caller: run())


class Commands:
    """All that one server knows, and its clients."""

    max_request_bytes = 64 << 10

    def __init__(
        self, table: Mapping[str, Command], *, events: Iterable[str]
    ) -> None:
        """query-version, -commands and -events are added to `table`."""
        self.clients: list[Listener] = []
        self.is_quitting = False
        events = list(events)
        self._commands = {
            **table,
            "query-version": without_arguments(lambda: VERSION),
            "query-events": without_arguments(lambda: _names(events)),
        }
        names = sorted(("qmp_capabilities", "query-commands", *self._commands))
        self._commands["query-commands"] = without_arguments(
            lambda: _names(names)
        )

    def heard_quit(self) -> None:
        """Called with `is_quitting` once the client has the reply to `quit`."""

    def emit(self, event: str, **data: Any) -> None:
        """Send an event to every client; a client that does not read loses
        it."""
        now = time.time()
        message: dict[str, Any] = {
            "event": event,
            "timestamp": {
                "seconds": int(now),
                "microseconds": int(now % 1 * 1_000_000),
            },
        }
        if data:
            message["data"] = data
        for client in self.clients:
            client.post(message)

    async def wait_told(self) -> None:
        """Until every client that reads has had its events."""
        with trio.move_on_after(_LAST_WORDS_S):
            for client in list(self.clients):
                await client.wait_idle()

    async def execute(self, request: Request, caller: Caller) -> Any:
        """Do it; the value to return. QmpError: it cannot be done."""
        command = self._commands.get(request.name)
        if command is None:
            raise command_not_found(request.name)
        check_arguments(request.arguments, command.parameters)
        result = command.run(request.arguments, caller)
        return await result if isinstance(result, Awaitable) else result


def _names(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"name": name} for name in names]
