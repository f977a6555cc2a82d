# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP monitor against polite, rude and slow clients."""

import json
import os
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from xenner.errors import HostError
from xenner.types import Domid, ShutdownReason
from xennerd.vm.domain import StatsFds
from xennerd.vm.monitor import MAX_CLIENTS, Client, serve_monitor
from xennerd.vm.monitorcommands import Controls

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

    targets: list[int] = field(default_factory=list)
    vbds: dict[int, dict[str, str]] = field(default_factory=dict)
    gone: str = ""

    def set_memory_target(self, kib: int) -> None:
        self._check()
        self.targets.append(kib)

    def vbd_nodes(self) -> dict[int, dict[str, str]]:
        self._check()
        return self.vbds

    def _check(self) -> None:
        if self.gone:
            raise HostError(self.gone)


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
            memory_bytes=16 << 20,
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
                "x-earlier-cpu-s": 0.5,
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
        assert panic["data"] == {"action": "poweroff"}
        assert (await client.receive())["data"] == {
            "guest": True,
            "reason": "guest-panic",
        }
        rig.controls.ended(ShutdownReason.REBOOT)
        assert (await client.receive())["event"] == "RESET"
        rig.controls.ended(ShutdownReason.REBOOT, reboots=False)
        last = await client.receive()
        assert (last["event"], last["data"]["reason"]) == (
            "SHUTDOWN",
            "guest-reset",
        )
        rig.controls.ended(ShutdownReason.WATCHDOG)
        assert (await client.receive())["event"] == "WATCHDOG"


async def test_stop_and_cont_are_events_when_they_change_something(
    tmp_path: Path,
) -> None:
    rig = Rig()
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        heard: list[str] = []
        for name in ("stop", "stop", "cont", "cont"):
            request = json.dumps({"execute": name}).encode()
            await client.stream.send_all(request)
        while heard.count("return") < 4:
            message = await client.receive()
            heard.append(message.get("event", "return"))
        # An event comes before the answer of what it is about, as QEMU's do.
        assert heard == ["STOP", *["return"] * 2, "RESUME", *["return"] * 2]


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
        await client.stream.send_all(b'{"execute": "system_powerdown"}')
        assert (await client.receive())["event"] == "POWERDOWN"
        assert await client.receive() == {"return": {}}
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
        (b"[1]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"{}", "lacks member 'execute'"),
        (b'{"execute": 5}', "'execute' must be a string"),
        (b'{"execute": "stop", "arguments": 1}', "must be an object"),
        (b'{"execute": "stop", "control": 1}', "'control' is unexpected"),
        (b'{"execute": "stop", "arguments": {"a": 1}}', "'a' is unexpected"),
        (b'{"execute": "balloon"}', "'value' is missing"),
        (b'{"execute": "qmp_capabilities"}', "already complete"),
        (
            b'{"execute": "balloon", "arguments": {"value": true}}',
            "for 'value', expected: integer",
        ),
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


# --- several clients ----------------------------------------------------------


async def test_every_client_hears_what_one_does(tmp_path: Path) -> None:
    async with serving(Rig(), tmp_path) as connect:
        clients = [await greeted(connect) for _ in range(3)]
        await clients[0].call("stop")
        for client in clients[1:]:
            assert (await client.receive())["event"] == "STOP"


async def test_there_may_be_so_many_and_no_more(tmp_path: Path) -> None:
    async with serving(Rig(), tmp_path) as connect:
        clients = [await greeted(connect) for _ in range(MAX_CLIENTS)]
        extra = await connect()
        assert await extra.stream.receive_some(1) == b""
        await clients[0].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        await greeted(connect)


# --- memory and disks ---------------------------------------------------------


async def test_balloon(tmp_path: Path) -> None:
    rig = Rig()
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        value = {"value": 8 << 20}
        for name, arguments in (("balloon", value), ("query-balloon", {})):
            answer = await client.call(name, arguments=arguments)
            assert answer["error"]["class"] == "DeviceNotActive"
        store = rig.controls.store = FakeStore()
        assert await client.call("balloon", arguments=value) == {"return": {}}
        # More than there is comes to all of it.
        await client.call("balloon", arguments={"value": 1 << 40})
        assert store.targets == [8 << 10, 16 << 10]
        bad = await client.call("balloon", arguments={"value": 0})
        assert bad["error"]["desc"] == "Parameter 'target' expects a size"
        assert (await client.call("query-balloon"))["return"] == {
            "actual": 16 << 20
        }
        summary = await client.call("query-memory-size-summary")
        assert summary["return"] == {"base-memory": 16 << 20}
        store.gone = "xenstore: gone"
        answer = await client.call("balloon", arguments=value)
        assert answer["error"] == {
            "class": "GenericError",
            "desc": "xenstore: gone",
        }


async def test_a_balloon_that_moves_is_told_of_once_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig()
    told: list[tuple[float, int]] = []

    class Ear:
        def post(self, message: dict[str, Any]) -> None:
            assert message["event"] == "BALLOON_CHANGE"
            told.append((trio.current_time(), message["data"]["actual"]))

        async def wait_idle(self) -> None:
            await trio.lowlevel.checkpoint()

    assert rig.machine is not None
    rig.controls.clients.append(Ear())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.controls.serve_balloon_events)
        began = trio.current_time()
        for step in range(10):
            rig.machine.actual_bytes -= 1 << 20
            rig.controls.balloon_moved()
            await trio.sleep(0.01 * (step + 1))
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert told == [(began, 15 << 20), (began + 1, 6 << 20)]


async def test_block_devices_are_those_of_xenstore(tmp_path: Path) -> None:
    rig = Rig()
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        assert await client.call("query-block") == {"return": []}
        rig.controls.store = FakeStore(
            vbds={51712: {"dev": "xvda", "params": "/dev/vg/a", "mode": "w"}}
        )
        (disk,) = (await client.call("query-block"))["return"]
        assert (disk["device"], disk["qdev"]) == ("xvda", "/vbd/51712")
        assert disk["inserted"]["image"]["filename"] == "/dev/vg/a"
        assert disk["inserted"]["ro"] is False


# --- the dump -----------------------------------------------------------------


class Core:
    """A vmcore that is none: some bytes, a hole, some bytes."""

    def __init__(self, path: Path) -> None:
        self.text = b"a" * 8192 + bytes(1 << 20) + b"b" * 4096
        with path.open("wb") as file:
            file.write(b"a" * 8192)
            file.seek(1 << 20, os.SEEK_CUR)
            file.write(b"b" * 4096)
        self.fd = os.open(path, os.O_RDONLY)


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    core = Core(tmp_path / "core")
    yield core
    os.close(core.fd)


def dumping(rig: Rig, core: Core) -> FakeMachine:
    assert rig.machine is not None
    rig.machine.vmcore = core
    return rig.machine


async def test_a_dump_to_a_file(tmp_path: Path, core: Core) -> None:
    rig = Rig()
    machine = dumping(rig, core)
    target = tmp_path / "dump"
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        before = (await client.call("query-dump"))["return"]
        assert before == {"status": "none", "completed": 0, "total": 0}
        request = {
            "execute": "dump-guest-memory",
            "arguments": {"paging": False, "protocol": f"file:{target}"},
        }
        await client.stream.send_all(json.dumps(request).encode())
        said = [await client.receive() for _ in range(4)]
        assert [m.get("event") for m in said] == [
            *("STOP", "RESUME", "DUMP_COMPLETED"),
            None,
        ]
        assert said[2]["data"]["result"]["status"] == "completed"
        assert said[3] == {"return": {}}
        result = (await client.call("query-dump"))["return"]
        assert result["completed"] == result["total"]
    assert machine.gate.is_open
    assert target.read_bytes() == core.text
    assert target.stat().st_mode & 0o777 == 0o600


async def test_a_dump_into_a_pipe_that_was_sent(
    tmp_path: Path, core: Core
) -> None:
    rig = Rig()
    machine = dumping(rig, core)
    machine.gate.is_open = False
    reader, writer = os.pipe()
    got = bytearray()

    def drain() -> None:
        while data := os.read(reader, 65536):
            got.extend(data)

    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        missing = await client.call("getfd", arguments={"fdname": "d"})
        assert "SCM_RIGHTS" in missing["error"]["desc"]
        text = b'{"execute": "getfd", "arguments": {"fdname": "d"}}'
        rights = (
            socket.SOL_SOCKET,
            socket.SCM_RIGHTS,
            struct.pack("i", writer),
        )
        await client.stream.socket.sendmsg([text], [rights])
        os.close(writer)
        assert await client.receive() == {"return": {}}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, drain)
            answer = await client.call(
                "dump-guest-memory",
                arguments={"paging": True, "protocol": "fd:d"},
            )
        assert answer == {"return": {}}
        again = await client.call(
            "dump-guest-memory",
            arguments={"paging": True, "protocol": "fd:d"},
        )
        assert "'d' not found" in again["error"]["desc"]
    os.close(reader)
    assert bytes(got) == core.text
    # It was stopped, and stays so.
    assert not machine.gate.is_open


async def test_while_a_dump_waits_nothing_else_moves_the_guest(
    tmp_path: Path, core: Core
) -> None:
    rig = Rig()
    dumping(rig, core)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    arguments = {"paging": False, "protocol": f"file:{pipe}"}
    async with serving(rig, tmp_path) as connect:
        client, other = await greeted(connect), await greeted(connect)
        request = {"execute": "dump-guest-memory", "arguments": arguments}
        await client.stream.send_all(json.dumps(request).encode())
        assert (await other.receive())["event"] == "STOP"
        for name in ("cont", "stop", "system_reset", "dump-guest-memory"):
            given = arguments if name == "dump-guest-memory" else {}
            answer = await other.call(name, arguments=given)
            assert "dump in process" in answer["error"]["desc"], name
        status = (await other.call("query-status"))["return"]
        assert status == {"running": False, "status": "save-vm"}
        # Nobody will ever read: to end does not wait for that.
        assert await other.call("quit") == {"return": {}}
    os.close(reader)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"protocol": "file:x"}, "'paging' is missing"),
        ({"protocol": "x"}, "must begin with 'file:'"),
        ({"protocol": "file:"}, "must begin with 'file:'"),
        ({"protocol": "file:/no/such/place"}, "No such file or directory"),
        ({"protocol": "file:a\0b"}, "null"),
        ({"protocol": "file:x", "detach": True}, "'detach'"),
        ({"protocol": "file:x", "begin": 0, "length": 1}, "'begin'"),
        ({"protocol": "file:x", "format": "kdump-zlib"}, "kdump-zlib"),
    ],
)
async def test_dumps_that_are_refused(
    arguments: dict[str, Any], says: str, tmp_path: Path, core: Core
) -> None:
    rig = Rig()
    machine = dumping(rig, core)
    if "paging" not in says:
        arguments = {"paging": False, **arguments}
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        answer = await client.call("dump-guest-memory", arguments=arguments)
        assert says in answer["error"]["desc"]
        assert machine.gate.is_open


async def test_a_reader_that_leaves_is_said_and_the_guest_goes_on(
    tmp_path: Path, core: Core
) -> None:
    rig = Rig()
    machine = dumping(rig, core)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        request = {
            "execute": "dump-guest-memory",
            "arguments": {"paging": False, "protocol": f"file:{pipe}"},
        }
        await client.stream.send_all(json.dumps(request).encode())
        assert (await client.receive())["event"] == "STOP"
        os.close(reader)
        assert (await client.receive())["event"] == "RESUME"
        told = (await client.receive())["data"]
        assert told["error"] == "dump: Broken pipe"
        assert told["result"]["status"] == "failed"
        assert (await client.receive())["error"]["desc"] == told["error"]
        assert machine.gate.is_open


# --- where tools find it ------------------------------------------------------


async def test_a_link_leads_to_the_socket_while_it_is_served(
    tmp_path: Path,
) -> None:
    link = tmp_path / "monitor.7"
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(serve_monitor, link=link),
            f"unix:{tmp_path}/qmp",
            Rig().controls,
        )
        assert link.readlink() == tmp_path / "qmp"
        async with await trio.open_unix_socket(str(link)):
            pass
        nursery.cancel_scope.cancel()
    assert not list(tmp_path.iterdir())


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
