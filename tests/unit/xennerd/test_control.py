# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be asked of xennerd, without one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.unit.xennerd.fakes import CrashHandler, Nobody
from tests.unit.xennerd.samples import RECORD
from xenner.journal import Event, Line
from xennerd.domain.records import Record, write_record
from xennerd.qmp.fds import Caller
from xennerd.qmp.request import QmpError, Request
from xennerd.supervisor.control import Control
from xennerd.supervisor.domains import Domains
from xennerd.supervisor.launcher import Launcher, StartRequest


class Slow(Nobody):
    """Its first start waits for the second one's end."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def start(self, request: StartRequest) -> None:
        self.may_end.wait()


class Rig:
    """A domain table, and what was told."""

    def __init__(
        self, runtime_dir: Path, launcher: Launcher | None = None
    ) -> None:
        self.told: list[tuple[str, Line]] = []
        self.control = Control()
        self.control.serve(
            Domains(
                runtime_dir,
                launcher=launcher or Nobody(),
                crash_handler=CrashHandler(runtime_dir),
                log_event=self._log_event,
                emit=Nobody(),
            )
        )

    def _log_event(self, record: Record, line: Line) -> None:
        self.told.append((record.name, line))

    async def ask(self, name: str, caller: Caller, **arguments: Any) -> Any:
        return await self.control.execute(Request(name, arguments), caller)


async def test_who_has_done_it_is_the_kernels_word(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    rig = Rig(tmp_path)
    for uid, what in ((0, "reboot"), (4_000_000, "destroy")):
        await rig.ask(
            "domain-asked", Caller(uid=uid), domid=RECORD.domid, what=what
        )
    assert rig.told == [
        (RECORD.name, Line(Event.SHUTDOWN_REQUESTED, f"{text}, with xennerctl"))
        for text in (
            "is asked to reboot by root",
            "is destroyed by user 4000000",
        )
    ]


@pytest.mark.parametrize(
    ("domid", "what", "complaint"),
    [
        (RECORD.domid, "praise", "one of shutdown, reboot, destroy"),
        (RECORD.domid + 1, "reboot", "no such domain"),
    ],
)
async def test_what_nobody_can_have_done(
    tmp_path: Path, domid: int, what: str, complaint: str
) -> None:
    write_record(tmp_path, RECORD)
    rig = Rig(tmp_path)
    with pytest.raises(QmpError, match=complaint):
        await rig.ask("domain-asked", Caller(uid=0), domid=domid, what=what)
    assert rig.told == []


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ("web", 'Domain with name "web" already exists.'),
        ("shop", f"uuid {RECORD.handle} is that of "),
    ],
)
async def test_two_starts_at_a_time_are_one(
    tmp_path: Path, other: str, complaint: str
) -> None:
    """Of one name, or of one UUID."""
    launcher = Slow()
    rig = Rig(tmp_path, launcher)
    file = tmp_path / "web.cfg"
    file.write_text(f"kernel='/k'\nuuid='{RECORD.handle}'\n")
    refused: list[str] = []

    async def create(name: str) -> None:
        try:
            await rig.ask(
                "domain-create",
                Caller(uid=0),
                file=str(file),
                settings=f"name='{name}'",
            )
        except QmpError as error:
            refused.append(str(error))
        launcher.may_end.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(create, "web")
            nursery.start_soon(create, other)
    # The one that was started leaves no record: it has ended, and was created.
    (first,) = refused
    assert first.startswith(complaint)
