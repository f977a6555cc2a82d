# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor's commands for memory, disks and the dump."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.support.monitor import (
    FakeMachine,
    Rig,
    greeted,
    serving,
)

# --- memory and disks ---------------------------------------------------------


async def test_balloon(tmp_path: Path) -> None:
    rig = Rig()
    async with serving(rig, tmp_path) as connect:
        client = await greeted(connect)
        value = {"value": 8 << 20}
        store = rig.store
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
        rig.store.vbds = {
            51712: {"dev": "xvda", "params": "/dev/vg/a", "mode": "w"}
        }
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
