# SPDX-License-Identifier: GPL-2.0-or-later
"""blkbackd dies under load, and nothing is lost or answered twice."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.blk.rig import Frontend, Rig
from xenner.xenbus import XenbusState

_NR_REPORTS = 8


def _verify(
    frontend: Frontend, options: str, between: Callable[[int], None]
) -> str:
    """Have all answers checked, and do something in between, again and again.
    What was found; see frontend_main.c."""
    frontend.tell(f"verify {options}")
    step = int(options.split()[0]) // _NR_REPORTS
    for number in range(1, _NR_REPORTS):
        assert frontend.hear() == f"at={step * number}"
        between(number)
    assert frontend.hear() == f"at={step * _NR_REPORTS}"
    return frontend.hear()


def _kill(rig: Rig, _number: int) -> None:
    rig.kill_backend()
    rig.start_backend()


@pytest.mark.parametrize(("nr_pages", "bits"), [(1, 64), (8, 32)])
def test_killed_again_and_again(
    rig: Rig, disk: Path, nr_pages: int, bits: int
) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect(nr_pages=nr_pages, bits=bits)
    options = f"16000 {32 * min(nr_pages, 4)}"
    found = _verify(frontend, options, partial(_kill, rig))
    assert found == "answers=16000 wrong=0"


def test_killed_with_all_that_a_frontend_may_ask(
    rig: Rig, frontend: Frontend
) -> None:
    """Barriers, flushes with data, discards: each kill finds some of them."""
    found = _verify(frontend, "2400 16 1", partial(_kill, rig))
    assert found == "answers=2400 wrong=0"


def test_a_restart_under_load(rig: Rig, frontend: Frontend) -> None:
    def restart(number: int) -> None:
        # One that is still starting would die of the signal.
        rig.wait_log(": connected", number)
        rig.stop_backend()
        rig.start_backend()

    assert _verify(frontend, "8000 32", restart) == "answers=8000 wrong=0"


def test_killed_with_queues(rig: Rig, disk: Path) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect(nr_queues=4)
    found = _verify(frontend, "8000 32", partial(_kill, rig))
    assert found == "answers=32000 wrong=0"


@pytest.mark.parametrize("name", ["disk", "vmcore.7", "evtchnd.socket"])
def test_what_it_needs_comes_later(
    rig: Rig, frontend: Frontend, name: str
) -> None:
    """A guest that is connected is not told to close for the host's sake."""
    needed = rig.evtchnd.runtime_dir / name
    hidden = needed.with_suffix(".hidden")

    def kill(number: int) -> None:
        rig.kill_backend()
        needed.rename(hidden)
        rig.start_backend()
        rig.wait_log("is tried again", number)
        assert frontend.backend_state() is XenbusState.CONNECTED
        hidden.rename(needed)

    assert _verify(frontend, "8000 32", kill) == "answers=8000 wrong=0"
    frontend.close()
    assert not list(rig.evtchnd.runtime_dir.glob("blkbackd.7-*"))


def test_closed_while_it_waits(rig: Rig, frontend: Frontend) -> None:
    """Nothing stays of it, nor keeps a new start."""
    disk = rig.directory / "disk"
    rig.kill_backend()
    disk.rename(disk.with_suffix(".hidden"))
    rig.start_backend()
    rig.wait_log("is tried again")
    frontend.close()
    assert not list(rig.evtchnd.runtime_dir.glob("blkbackd.7-*"))
    disk.with_suffix(".hidden").rename(disk)
    frontend.set_state(XenbusState.INITIALISING)
    frontend.connect()
    assert frontend.ask("io 0 2048 8 1") == "status=0 same=1"


def test_the_store_ends(rig: Rig, frontend: Frontend) -> None:
    assert frontend.backend_state() is XenbusState.CONNECTED
    assert rig.lose_store() == "blkbackd: xenstore has ended"


def test_nothing_is_left_of_a_disk_that_is_closed(
    rig: Rig, frontend: Frontend
) -> None:
    def records() -> list[Path]:
        return list(rig.evtchnd.runtime_dir.glob("blkbackd.*-*"))

    assert len(records()) == 1
    frontend.close()
    assert not records()
