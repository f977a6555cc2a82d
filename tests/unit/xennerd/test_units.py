# SPDX-License-Identifier: GPL-2.0-or-later
"""What xenner-units does for xennerd, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from xenner.errors import HostError
from xenner.journal import Event, Line, Subject
from xenner.types import Domid
from xennerd.qmp.fds import Caller
from xennerd.qmp.request import QmpError, Request
from xennerd.qmp.server import serve_stream
from xennerd.units.__main__ import Server
from xennerd.units.client import UnitsByHelper
from xennerd.units.manager import Outcome, instance_of, unit_of

TOLD = {
    "instance": "web",
    "event": Event.DEVICE.value,
    "text": "xvda is connected",
    "domid": 7,
    "name": "web",
    "uuid": "",
    "device": "vbd/51712",
    "reason": "",
}
SUBJECT = Subject(Domid(7), "web")
LINE = Line(Event.RESTARTED, "is started again", reason="x")


class Units:
    """They start, but for one."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.told: list[tuple[object, ...]] = []

    def start(self, instance: str) -> None:
        if instance == "bad":
            raise HostError("Job failed", "journalctl -u xenner@bad")
        self.started.append(instance)

    def outcome(self, instance: str) -> Outcome:
        return Outcome("failed", instance)

    def log_event(self, instance: str, subject: Subject, line: Line) -> None:
        self.told.append((instance, subject, line))


async def ask(units: Units, name: str, /, **arguments: Any) -> Any:
    return await Server(units).execute(Request(name, arguments), Caller())


async def test_what_xennerd_asks_is_done(tmp_path: Path) -> None:
    units = Units()
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / "socket"))
    listener.listen()

    async def serve(stream: trio.SocketStream) -> None:
        await serve_stream(stream, Server(units))

    def use() -> None:
        helper = UnitsByHelper(tmp_path / "socket")
        helper.start("7")
        assert helper.outcome("7") == Outcome("failed", "7")
        helper.log_event("7", SUBJECT, LINE)
        with pytest.raises(HostError, match="journalctl -u xenner@bad"):
            helper.start("bad")

    async with trio.open_nursery() as nursery:
        sockets = [trio.SocketListener(listener)]
        nursery.start_soon(trio.serve_listeners, serve, sockets)
        await trio.to_thread.run_sync(use)
        nursery.cancel_scope.cancel()
    assert units.started == ["7"]
    assert units.told == [("7", SUBJECT, LINE)]


def test_nobody_there_keeps_nobody_from_going_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    helper = UnitsByHelper(tmp_path / "none")
    helper.log_event("7", SUBJECT, LINE)
    assert "web: is started again (not told: xenner-units at" in caplog.text
    with pytest.raises(HostError, match="No such file"):
        helper.start("7")


@pytest.mark.parametrize(
    "instance", ["", "-a", "a b", "../x", "a@b", "a.service\nb", "a/b", "x*"]
)
async def test_a_name_that_no_unit_has(instance: str) -> None:
    units = Units()
    for name in ("unit-start", "query-unit"):
        with pytest.raises(QmpError, match="no unit can have the name"):
            await ask(units, name, instance=instance)
    assert not units.started


@pytest.mark.parametrize(
    "wrong",
    [
        {"instance": "../sshd"},
        {"event": "1" * 32},
        {"text": "one\nMESSAGE_ID=another"},
        {"text": "x" * 1001},
        {"name": "a\0b"},
        {"device": "\x1b[2J"},
        {"domid": 0},
        {"domid": 0x7FF0},
        {"uuid": "not a uuid"},
        {"unit": "sshd.service"},
        {"reason": 7},
    ],
)
async def test_a_line_that_is_none(wrong: dict[str, Any]) -> None:
    units = Units()
    with pytest.raises(QmpError):
        await ask(units, "unit-tell", **{**TOLD, **wrong})
    assert not units.told
    await ask(units, "unit-tell", **TOLD)
    assert len(units.told) == 1


def test_names() -> None:
    assert instance_of(unit_of("web")) == "web"
    assert instance_of("sshd.service") == instance_of("") == ""
