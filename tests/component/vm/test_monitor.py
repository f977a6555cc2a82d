# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP monitor against polite, rude and slow clients."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from xenner.types import Domid, ShutdownReason
from xennerd.vm.monitor import Client, Controls, serve_monitor

HANDLE = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


@dataclass
class FakeGate:
    is_open: bool = True


@dataclass
class FakeVcpu:
    thread_id: int = 4711


@dataclass
class FakeMachine:
    """What the monitor knows of a machine; it only keeps count."""

    gate: FakeGate = field(default_factory=FakeGate)
    ready_at: float | None = 1.0
    vcpus: list[FakeVcpu] = field(default_factory=lambda: [FakeVcpu()])

    def pause(self) -> None:
        self.gate.is_open = False

    def resume(self) -> None:
        self.gate.is_open = True

    def statistics(self) -> dict[str, Any]:
        return {"traps": 3}


class Rig:
    """A monitor's controls with a machine that is none."""

    def __init__(self) -> None:
        self.machine: FakeMachine | None = FakeMachine()
        self.called: list[str] = []
        self.has_xenstore = False
        self.controls = Controls(
            name="web",
            domid=Domid(7),
            handle=HANDLE,
            nr_vcpus=1,
            current=lambda: self.machine,  # type: ignore[arg-type,return-value]
            quit=lambda: self.called.append("quit"),
            reset=lambda: self.called.append("reset"),
            powerdown=self._powerdown,
        )

    def _powerdown(self) -> bool:
        self.called.append("powerdown")
        return self.has_xenstore


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


async def test_greeting_then_capabilities_then_commands(
    tmp_path: Path,
) -> None:
    async with serving(Rig(), tmp_path) as connect:
        client = await connect()
        greeting = (await client.receive())["QMP"]
        assert set(greeting["version"]["qemu"]) == {"major", "minor", "micro"}
        assert greeting["capabilities"] == []
        early = await client.call("query-status")
        assert early["error"]["class"] == "CommandNotFound"
        assert await client.call("qmp_capabilities", id=1) == {
            "return": {},
            "id": 1,
        }
        assert (await client.call("query-status"))["return"] == {
            "running": True,
            "status": "running",
        }


async def test_questions(tmp_path: Path) -> None:
    async with serving(Rig(), tmp_path) as connect:
        client = await greeted(connect)

        async def ask(name: str) -> Any:
            return (await client.call(name))["return"]

        assert await ask("query-name") == {"name": "web"}
        assert await ask("query-uuid") == {"UUID": str(HANDLE)}
        assert await ask("query-kvm") == {"enabled": True, "present": True}
        assert await ask("query-cpus-fast") == [
            {
                "cpu-index": 0,
                "qom-path": "/vcpu/0",
                "thread-id": 4711,
                "target": "x86_64",
            }
        ]
        assert await ask("x-xenner-statistics") == {"traps": 3}
        names = {row["name"] for row in await ask("query-commands")}
        assert {"stop", "cont", "quit", "query-version"} <= names


async def test_stop_and_cont(tmp_path: Path) -> None:
    rig = Rig()
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        await client.call("stop")
        assert (await client.call("query-status"))["return"]["status"] == (
            "paused"
        )
        await client.call("cont")
        assert rig.machine is not None
        assert rig.machine.gate.is_open


async def test_not_started_yet(tmp_path: Path) -> None:
    rig = Rig()
    rig.machine = FakeMachine(gate=FakeGate(is_open=False), ready_at=None)
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        status = (await client.call("query-status"))["return"]
        assert status == {"running": False, "status": "prelaunch"}


async def test_events_are_told_to_who_is_there(tmp_path: Path) -> None:
    rig = Rig()
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        rig.controls.ended(ShutdownReason.CRASH)
        panic = await client.receive()
        assert panic["event"] == "GUEST_PANICKED"
        assert set(panic["timestamp"]) == {"seconds", "microseconds"}
        assert (await client.receive())["event"] == "SHUTDOWN"
        rig.controls.ended(ShutdownReason.REBOOT)
        assert (await client.receive())["event"] == "RESET"


async def test_the_last_event_arrives_before_the_end(tmp_path: Path) -> None:
    rig = Rig()
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        rig.controls.ended(ShutdownReason.POWEROFF)
        await rig.controls.wait_told()
        # It is on its way: nothing more is asked of the monitor.
        data = client.stream.socket.recv(65536)
        assert b"SHUTDOWN" in await data


async def test_quit_and_reset(tmp_path: Path) -> None:
    rig = Rig()
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        await client.call("system_reset")
        answer = await client.call("system_powerdown")
        assert "use quit" in answer["error"]["desc"]
        assert await client.call("quit") == {"return": {}}
        await trio.testing.wait_all_tasks_blocked()
        assert rig.called == ["reset", "powerdown", "quit"]


async def test_powerdown_asks_and_tells(tmp_path: Path) -> None:
    rig = Rig()
    rig.has_xenstore = True
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        assert await client.call("system_powerdown") == {"return": {}}
        assert (await client.receive())["event"] == "POWERDOWN"
        assert rig.called == ["powerdown"]


async def test_between_two_machines(tmp_path: Path) -> None:
    rig = Rig()
    rig.machine = None
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        assert (await client.call("query-status"))["return"]["running"] is False
        for name in (
            *("stop", "cont", "system_reset", "system_powerdown"),
            "x-xenner-statistics",
        ):
            assert "not running" in (await client.call(name))["error"]["desc"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"garbage", "JSON parse error"),
        (b"[1]", "must be an object"),
        (b'"x"', "must be an object"),
        (b"{}", "has not been found"),
        (b'{"execute": 5}', "has not been found"),
        (b'{"execute": "human-monitor-command"}', "has not been found"),
        (b"\xff\xfe", "JSON parse error"),
        (b"[" * 20_000 + b"]" * 20_000, "JSON parse error"),
        (b'{"execute": "quit', "JSON parse error"),
        (b"}", "JSON parse error"),
    ],
)
async def test_rude_lines_are_answered(
    line: bytes, says: str, tmp_path: Path
) -> None:
    async with serving(Rig(), tmp_path) as connect:
        client = await greeted(connect)
        await client.stream.send_all(line + b"\n")
        assert says in (await client.receive())["error"]["desc"]
        assert "return" in await client.call("query-name")


async def test_requests_need_no_line_ends(tmp_path: Path) -> None:
    async with serving(Rig(), tmp_path) as connect:
        client = await greeted(connect)
        request = json.dumps({"execute": "query-name"}, indent=2).encode()
        await client.stream.send_all(request + request)
        for _ in range(2):
            assert await client.receive() == {"return": {"name": "web"}}


async def test_a_request_without_end_ends_the_connection(
    tmp_path: Path,
) -> None:
    async with serving(Rig(), tmp_path) as connect:
        client = await greeted(connect)
        with suppress(trio.BrokenResourceError):
            while True:
                await client.stream.send_all(b"x" * 65536)
        # The next one is served.
        await greeted(connect)


async def test_a_client_that_leaves_in_the_middle(tmp_path: Path) -> None:
    rig = Rig()
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        await client.stream.send_all(b'{"execute": "query-')
        await client.stream.aclose()
        await greeted(connect)
        assert len(rig.controls.clients) == 1


class Script:
    """A channel that says what it was given and keeps what it hears."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.heard = b""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.heard += data

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._pieces.pop(0) if self._pieces else b""


@given(pieces=st.lists(st.binary(min_size=1, max_size=200), max_size=20))
def test_any_bytes_get_errors_at_worst(pieces: list[bytes]) -> None:
    script = Script(list(pieces))
    trio.run(Client(script, Rig().controls).serve)
    answers = [json.loads(line) for line in script.heard.splitlines()]
    assert "QMP" in answers[0]
    assert all("error" in answer for answer in answers[1:])


class Stuck(Script):
    """Hears the greeting, then nothing more."""

    async def send(self, data: bytes) -> None:
        if self.heard:
            await trio.sleep_forever()
        await super().send(data)


async def test_events_for_a_stuck_client_are_bounded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig()
    client = Client(Stuck([b'{"execute": "qmp_capabilities"}\n']), rig.controls)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.serve)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(100_000):
                rig.controls.emit("STOP")
            # Nor does it keep anybody from ending.
            await rig.controls.wait_told()
            nursery.cancel_scope.cancel()
