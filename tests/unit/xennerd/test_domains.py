# SPDX-License-Identifier: GPL-2.0-or-later
"""Who lives, as xennerd sees it."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.unit.xennerd.fakes import CrashHandler, Nobody
from tests.unit.xennerd.samples import RECORD
from xennerd.domain.records import write_record
from xennerd.supervisor.domains import Domains


@pytest.fixture
def guest() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when it is told to."""
    with subprocess.Popen(["sleep", "infinity"]) as process:
        yield process
        process.kill()


async def test_a_guest_that_has_just_been_killed_is_none(
    tmp_path: Path, guest: subprocess.Popen[bytes]
) -> None:
    vmcore = tmp_path / f"vmcore.{RECORD.domid}"
    vmcore.touch()
    handler = CrashHandler(vmcore)
    domains = Domains(
        tmp_path,
        launcher=Nobody(),
        crash_handler=handler,
        log_event=Nobody(),
        emit=Nobody(),
    )
    with ExitStack() as stack:
        stack.callback(handler.may_end.set)
        stack.callback(guest.kill)
        write_record(tmp_path, replace(RECORD, pid=guest.pid, end=""))
        with vmcore.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert domains.is_any_alive()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(domains.watch)
                await trio.testing.wait_all_tasks_blocked(0.05)
                file.close()
                guest.kill()
                await trio.to_thread.run_sync(handler.has_begun.wait)
                assert not domains.is_any_alive()
                # Nor when xennerd is told to end meanwhile.
                nursery.cancel_scope.cancel()
        assert not domains.is_any_alive()
