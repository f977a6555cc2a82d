# SPDX-License-Identifier: GPL-2.0-or-later
"""A monitor whose machine is none, and clients of it."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
import trio.testing

from xenner.errors import HostError
from xenner.types import Domid
from xennerd.vm.domain import StatsFds
from xennerd.vm.monitor.commands import Controls
from xennerd.vm.monitor.server import serve_monitor

HANDLE = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


@dataclass
class FakeGate:
    is_open: bool = True


@dataclass
class FakeVcpu:
    thread_id: int = 4711
    earlier_cpu_s: float = 0.5


@dataclass
class FakeMachine:
    """What the monitor knows of a machine; it only keeps count."""

    gate: FakeGate = field(default_factory=FakeGate)
    ready_at: float | None = 1.0
    vcpus: list[FakeVcpu] = field(default_factory=lambda: [FakeVcpu()])
    stats_fds: StatsFds = field(default_factory=lambda: StatsFds(None))
    vmcore: Any = None
    actual_bytes: int = 16 << 20

    def pause(self) -> None:
        self.gate.is_open = False

    def resume(self) -> None:
        self.gate.is_open = True

    def statistics(self) -> dict[str, Any]:
        return {"traps": 3}

    def memory_bytes(self) -> int:
        return self.actual_bytes


@dataclass
class FakeStore:
    """A guest's nodes; `gone` is what xenstore says when it is away."""

    asked: list[str] = field(default_factory=list)
    hears: bool = True
    takes: bool = True

    targets: list[int] = field(default_factory=list)
    vbds: dict[int, dict[str, str]] = field(default_factory=dict)
    gone: str = ""

    def set_memory_target(self, kib: int) -> None:
        self._check()
        self.targets.append(kib)

    def vbd_nodes(self) -> dict[int, dict[str, str]]:
        self._check()
        return self.vbds

    def request_shutdown(self, request: str) -> None:
        self._check()
        self.asked.append(request)

    def is_request_watched(self) -> bool:
        self._check()
        return self.hears

    def is_request_taken(self) -> bool:
        self._check()
        return self.takes

    def _check(self) -> None:
        if self.gone:
            raise HostError(self.gone)


class Rig:
    """A monitor's controls with a machine that is none."""

    def __init__(self) -> None:
        self.machine: FakeMachine | None = FakeMachine()
        self.called: list[str] = []
        self.store = FakeStore()
        self.controls = Controls(
            name="web",
            domid=Domid(7),
            handle=HANDLE,
            nr_vcpus=1,
            current=lambda: self.machine,  # type: ignore[arg-type,return-value]
            quit=lambda: self.called.append("quit"),
            reset=lambda: self.called.append("reset"),
            powerdown=lambda: self.called.append("powerdown"),
            store=self.store,
            memory_bytes=16 << 20,
        )


class Connection:
    """A client's end."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._pending = b""

    async def receive(self) -> dict[str, Any]:
        while b"\n" not in self._pending:
            data = bytes(await self.stream.receive_some(65536))
            assert data, "the monitor closed the connection"
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    async def call(self, name: str, **more: Any) -> dict[str, Any]:
        request = {"execute": name, **more}
        await self.stream.send_all(json.dumps(request).encode() + b"\n")
        while "event" in (answer := await self.receive()):
            pass
        return answer


Connect = Callable[[], Awaitable[Connection]]


@asynccontextmanager
async def serving(rig: Rig, tmp_path: Path) -> AsyncIterator[Connect]:
    path = tmp_path / "qmp"

    async with AsyncExitStack() as clients:

        async def connect() -> Connection:
            stream = await trio.open_unix_socket(str(path))
            await clients.enter_async_context(stream)
            return Connection(stream)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_monitor, f"unix:{path}", rig.controls)
                yield connect
                nursery.cancel_scope.cancel()
    assert not path.exists()


async def greeted(connect: Connect) -> Connection:
    client = await connect()
    assert "QMP" in await client.receive()
    assert await client.call("qmp_capabilities") == {"return": {}}
    return client
