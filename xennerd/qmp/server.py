# SPDX-License-Identifier: GPL-2.0-or-later
"""A server of QMP: its clients, one connection each.

JSON objects, as docs/interop/qmp-spec of QEMU says. A client may send
anything: requests are bounded, answers are never queued without end.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import trio

from xennerd.qmp.commands import VERSION, Commands
from xennerd.qmp.fds import Caller
from xennerd.qmp.jsonstream import JsonSplitter, TooLongError
from xennerd.qmp.request import (
    ErrorClass,
    QmpError,
    Request,
    parse_request,
    parse_text,
)

MAX_CLIENTS = 16
"""At a time; one more finds its connection closed."""

# struct ucred.
_UCRED = struct.Struct("3i")
_MAX_QUEUED = 64
_MAX_UNNAMED_FDS = 16
_SEND_TIMEOUT_S = 5.0
_LAST_WORDS_S = 1.0


class Channel(Protocol):
    """Where a client's bytes come from and go to."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes: ...


class _StreamChannel:
    """A Unix socket; descriptors that come along go to `caller`."""

    def __init__(self, stream: trio.SocketStream, caller: Caller) -> None:
        self._stream = stream
        self._caller = caller

    async def send(self, data: bytes) -> None:
        with trio.fail_after(_SEND_TIMEOUT_S):
            await self._stream.send_all(data)

    async def receive(self) -> bytes:
        space = socket.CMSG_SPACE(_MAX_UNNAMED_FDS * 4)
        try:
            data, ancillary, _, _ = await self._stream.socket.recvmsg(
                4096, space, socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            raise trio.BrokenResourceError from error
        fds = array.array("i")
        for level, kind, body in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
        self._keep(list(fds))
        return data

    def _keep(self, fds: list[int]) -> None:
        waiting = self._caller.unnamed_fds
        waiting += fds
        while len(waiting) > _MAX_UNNAMED_FDS:
            os.close(waiting.pop(0))


class Client:
    """One connection: its commands, and the events it is told."""

    def __init__(
        self,
        channel: Channel,
        commands: Commands,
        caller: Caller | None = None,
    ) -> None:
        self._channel = channel
        self._commands = commands
        self._caller = caller or Caller()
        self._is_ready = False
        # Answers and events in one queue: what was first is heard first.
        self._queue, self._queued = trio.open_memory_channel[dict[str, Any]](
            _MAX_QUEUED
        )
        self._nr_unsent = 0
        self._sent = trio.lowlevel.ParkingLot()

    def post(self, message: dict[str, Any]) -> None:
        """Tell of an event, if there is room for it."""
        if not self._is_ready:
            return
        try:
            self._queue.send_nowait(message)
        except trio.WouldBlock:
            return
        self._nr_unsent += 1

    async def wait_idle(self) -> None:
        """Until all that was queued so far is sent; forever if it is stuck."""
        while self._nr_unsent:
            await self._sent.park()

    async def serve(self) -> None:
        """Until the client goes away or stops reading."""
        await self._send({"QMP": {"version": VERSION, "capabilities": []}})
        self._commands.clients.append(self)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve_queue)
                await self._serve_requests()
                await self.wait_idle()
                nursery.cancel_scope.cancel()
        finally:
            self._commands.clients.remove(self)
            self._caller.close()
            # Only once the client has the reply, or is gone.
            if self._commands.is_quitting:
                self._commands.heard_quit()

    async def _serve_requests(self) -> None:
        async with aclosing(self._texts()) as texts:
            async for text in texts:
                answer = await self._answer(text)
                # A client that asks on and on without reading waits here.
                self._nr_unsent += 1
                await self._queue.send(answer)
                if self._commands.is_quitting:
                    with trio.move_on_after(_LAST_WORDS_S):
                        await self.wait_idle()
                    return

    async def _serve_queue(self) -> None:
        async for message in self._queued:
            await self._send(message)
            self._nr_unsent -= 1
            self._sent.unpark_all()

    async def _send(self, message: dict[str, Any]) -> None:
        await self._channel.send(json.dumps(message).encode() + b"\r\n")

    async def _texts(self) -> AsyncGenerator[bytes, None]:
        splitter = JsonSplitter(max_bytes=self._commands.max_request_bytes)
        while data := await self._channel.receive():
            try:
                texts = splitter.feed(data)
            except TooLongError:
                return
            for text in texts:
                yield text

    async def _answer(self, text: bytes) -> dict[str, Any]:
        identity: dict[str, Any] = {}
        try:
            value = parse_text(text)
            if isinstance(value, dict) and "id" in value:
                identity = {"id": value["id"]}
            result = await self._execute(parse_request(value))
        except QmpError as error:
            problem = {"class": str(error.kind), "desc": str(error)}
            return {"error": problem, **identity}
        return {"return": result, **identity}

    async def _execute(self, request: Request) -> Any:
        if request.name == "qmp_capabilities":
            return self._negotiate(request.arguments)
        if not self._is_ready:
            raise QmpError(
                "Expecting capabilities negotiation with 'qmp_capabilities'",
                kind=ErrorClass.COMMAND_NOT_FOUND,
            )
        return await self._commands.execute(request, self._caller)

    def _negotiate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._is_ready:
            raise QmpError(
                "Capabilities negotiation is already complete, command ignored",
                kind=ErrorClass.COMMAND_NOT_FOUND,
            )
        for name in arguments:
            if name != "enable":
                raise QmpError(f"Parameter '{name}' is unexpected")
        wanted = arguments.get("enable", [])
        if not isinstance(wanted, list):
            raise QmpError(
                "Invalid parameter type for 'enable', expected: array"
            )
        if wanted:
            raise QmpError(f"Capability {wanted[0]} not available")
        self._is_ready = True
        return {}


async def serve_stream(stream: trio.SocketStream, commands: Commands) -> None:
    """A connection, until it ends. One more than there may be is let go
    without a word."""
    if len(commands.clients) < MAX_CLIENTS:
        # unix(7): of the process that has connected, as it was then.
        raw = stream.socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size
        )
        caller = Caller(uid=_UCRED.unpack(raw)[1])
        await serve_channel(
            _StreamChannel(stream, caller), commands, caller=caller
        )


async def serve_channel(
    channel: Channel, commands: Commands, *, caller: Caller | None = None
) -> None:
    """Likewise, where `caller` has what the client sends beside its bytes."""
    try:
        await Client(channel, commands, caller).serve()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    except* trio.TooSlowError:
        pass
