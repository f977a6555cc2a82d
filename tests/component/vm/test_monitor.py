# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP monitor against polite, rude and slow clients."""

import json
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.support.monitor import (
    HANDLE,
    FakeGate,
    FakeMachine,
    Rig,
    greeted,
    serving,
)
from xenner.errors import HostError
from xenner.types import ShutdownReason
from xennerd.qmp.client import QmpClient
from xennerd.qmp.server import MAX_CLIENTS, Client
from xennerd.vm.monitor.server import serve_monitor


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
        assert await client.call("quit") == {"return": {}}
        await trio.testing.wait_all_tasks_blocked()
        assert rig.called == ["reset", "quit"]


async def test_powerdown_asks_and_tells(tmp_path: Path) -> None:
    rig = Rig()
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


async def test_all_of_them_may_come_at_once(tmp_path: Path) -> None:
    async with serving(Rig(), tmp_path):
        # Nothing is accepted meanwhile, and nobody waits: EAGAIN is an error.
        clients = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CLIENTS)]
        for client in clients:
            client.setblocking(False)
            client.connect(str(tmp_path / "qmp"))
        for client in clients:
            client.close()


def test_who_is_never_heard_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            with pytest.raises(HostError, match=r"^monitor at .*: no answer$"):
                QmpClient(path, limit_s=0.1)


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
