# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor: QMP, QEMU's machine protocol, on a Unix socket or stdio.

JSON objects, as docs/interop/qmp-spec of QEMU says. A client may send
anything: requests are bounded, answers are never queued without end.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import trio

from xenner.types import Domid, ShutdownReason
from xennerd.vm.console import FdSink, listen_unix
from xennerd.vm.domain import Machine
from xennerd.vm.jsonstream import JsonSplitter, TooLongError

_MAX_REQUEST_BYTES = 64 * 1024
_SEND_TIMEOUT_S = 5.0
_LAST_WORDS_S = 1.0
_VERSION = {"major": 0, "minor": 1, "micro": 0}


class QmpError(Exception):
    """The error object that a client gets."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Channel(Protocol):
    """Where a client's bytes come from and go to."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes: ...


class _StreamChannel:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        with trio.fail_after(_SEND_TIMEOUT_S):
            await self._stream.send_all(data)

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(4096))


Command = Callable[[dict[str, Any]], Any]


@dataclass
class Controls:
    """What a monitor can ask of its session, and whom to tell of events."""

    name: str
    domid: Domid
    handle: uuid.UUID
    nr_vcpus: int
    current: Callable[[], Machine | None]
    quit: Callable[[], None]
    reset: Callable[[], None]
    powerdown: Callable[[], bool]
    """Have the guest asked to power off; False: there is no way to ask."""
    clients: list[Client] = field(default_factory=list)
    is_quitting: bool = False

    def emit(self, event: str, **data: Any) -> None:
        """Tell every client; one that does not read loses its events."""
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

    def ended(self, reason: ShutdownReason) -> None:
        """Emit what QEMU emits for such an end."""
        match reason:
            case ShutdownReason.CRASH | ShutdownReason.WATCHDOG:
                self.emit("GUEST_PANICKED", action="shutdown")
            case ShutdownReason.REBOOT:
                self.emit("RESET", guest=True, reason="guest-reset")
                return
        self.emit("SHUTDOWN", guest=True, reason="guest-shutdown")

    async def wait_told(self) -> None:
        """Until every client that reads has had its events."""
        with trio.move_on_after(_LAST_WORDS_S):
            for client in list(self.clients):
                await client.wait_idle()

    def machine(self) -> Machine:
        machine = self.current()
        if machine is None:
            raise QmpError("GenericError", "the guest is not running")
        return machine

    def commands(self) -> dict[str, Command]:
        return {
            "qmp_capabilities": lambda _: {},
            "query-version": lambda _: {"qemu": _VERSION, "package": "xenner"},
            "query-commands": lambda _: [{"name": n} for n in self.commands()],
            "query-name": lambda _: {"name": self.name},
            "query-uuid": lambda _: {"UUID": str(self.handle)},
            "query-kvm": lambda _: {"enabled": True, "present": True},
            "query-status": self._query_status,
            "query-cpus-fast": self._query_cpus,
            "stop": self._stop,
            "cont": self._cont,
            "quit": self._quit,
            "system_reset": self._system_reset,
            "system_powerdown": self._system_powerdown,
            "x-xenner-statistics": lambda _: self.machine().statistics(),
        }

    def _query_status(self, _: dict[str, Any]) -> Any:
        machine = self.current()
        running = machine is not None and machine.gate.is_open
        if machine is None:
            status = "shutdown"
        else:
            status = "prelaunch" if machine.ready_at is None else "paused"
        return {"running": running, "status": "running" if running else status}

    def _query_cpus(self, _: dict[str, Any]) -> Any:
        return [
            {
                "cpu-index": i,
                "qom-path": f"/vcpu/{i}",
                "thread-id": self._thread_id(i),
                "target": "x86_64",
            }
            for i in range(self.nr_vcpus)
        ]

    def _thread_id(self, number: int) -> int:
        machine = self.current()
        return machine.vcpus[number].thread_id if machine else 0

    def _stop(self, _: dict[str, Any]) -> Any:
        self.machine().pause()
        self.emit("STOP")
        return {}

    def _cont(self, _: dict[str, Any]) -> Any:
        self.machine().resume()
        self.emit("RESUME")
        return {}

    def _quit(self, _: dict[str, Any]) -> Any:
        self.emit("SHUTDOWN", guest=False, reason="host-qmp-quit")
        self.is_quitting = True
        return {}

    def _system_reset(self, _: dict[str, Any]) -> Any:
        self.machine()
        self.reset()
        self.emit("RESET", guest=False, reason="host-qmp-system-reset")
        return {}

    def _system_powerdown(self, _: dict[str, Any]) -> Any:
        self.machine()
        if not self.powerdown():
            raise QmpError(
                "GenericError",
                "there is no xenstore to ask the guest through; use quit",
            )
        self.emit("POWERDOWN")
        return {}


class Client:
    """One connection: its commands, and the events it is told."""

    def __init__(self, channel: Channel, controls: Controls) -> None:
        self._channel = channel
        self._controls = controls
        self._is_ready = False
        # Answers and events come from two tasks; lines must not mix.
        self._sending = trio.Lock()
        self._nr_unsent = 0
        self._sent = trio.lowlevel.ParkingLot()
        self._send_events, self._events = trio.open_memory_channel[
            dict[str, Any]
        ](64)

    def post(self, message: dict[str, Any]) -> None:
        if self._is_ready:
            try:
                self._send_events.send_nowait(message)
            except trio.WouldBlock:
                return
            self._nr_unsent += 1

    async def wait_idle(self) -> None:
        """Until all events posted so far are sent; forever if it is stuck."""
        while self._nr_unsent:
            await self._sent.park()

    async def serve(self) -> None:
        """Until the client goes away or stops reading."""
        await self._send(
            {
                "QMP": {
                    "version": {"qemu": _VERSION, "package": "xenner"},
                    "capabilities": [],
                }
            }
        )
        self._controls.clients.append(self)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve_events)
                async with aclosing(self._texts()) as texts:
                    async for text in texts:
                        answer = self._answer(text)
                        try:
                            await self._send(answer)
                        finally:
                            # Not before who asked for it has heard.
                            if self._controls.is_quitting:
                                self._controls.quit()
                nursery.cancel_scope.cancel()
        finally:
            self._controls.clients.remove(self)

    async def _serve_events(self) -> None:
        async for message in self._events:
            await self._send(message)
            self._nr_unsent -= 1
            self._sent.unpark_all()

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._channel.send(json.dumps(message).encode() + b"\r\n")

    async def _texts(self) -> AsyncGenerator[bytes, None]:
        splitter = JsonSplitter(max_bytes=_MAX_REQUEST_BYTES)
        while data := await self._channel.receive():
            try:
                texts = splitter.feed(data)
            except TooLongError:
                return
            for text in texts:
                yield text

    def _answer(self, text: bytes) -> dict[str, Any]:
        identity: dict[str, Any] = {}
        try:
            request = json.loads(text)
            if not isinstance(request, dict):
                raise QmpError("GenericError", "QMP input must be an object")
            if "id" in request:
                identity = {"id": request["id"]}
            return {"return": self._execute(request), **identity}
        except QmpError as error:
            problem = {"class": error.kind, "desc": str(error)}
        except (ValueError, RecursionError):
            problem = {"class": "GenericError", "desc": "JSON parse error"}
        return {"error": problem, **identity}

    def _execute(self, request: dict[str, Any]) -> Any:
        name = request.get("execute")
        command = None
        if isinstance(name, str):
            command = self._controls.commands().get(name)
        if command is None or (
            not self._is_ready and name != "qmp_capabilities"
        ):
            raise QmpError(
                "CommandNotFound", f"The command {name} has not been found"
            )
        self._is_ready = True
        arguments = request.get("arguments", {})
        return command(arguments if isinstance(arguments, dict) else {})


async def serve_monitor(
    spec: str,
    controls: Controls,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `spec`: none, stdio or unix:PATH, until cancelled."""
    kind, _, rest = spec.partition(":")
    if kind == "unix":
        async with listen_unix(Path(rest.split(",")[0])) as listener:
            task_status.started()
            while True:
                # One client at a time, as QEMU's monitor.
                async with await listener.accept() as stream:
                    await _serve_client(_StreamChannel(stream), controls)
    task_status.started()
    if kind == "stdio":
        await _serve_client(FdSink(1, 0, leave=False), controls)


async def _serve_client(channel: Channel, controls: Controls) -> None:
    try:
        await Client(channel, controls).serve()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    except* trio.TooSlowError:
        pass
