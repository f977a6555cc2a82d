# SPDX-License-Identifier: GPL-2.0-or-later
"""blkbackd dies under load, and nothing is lost or answered twice."""

from pathlib import Path

import pytest

from tests.component.blkbackd.rig import Frontend, Rig
from xenner.xenbus import XenbusState

_NR_REPORTS = 8


@pytest.mark.parametrize(("nr_pages", "bits"), [(1, 64), (8, 32)])
def test_killed_again_and_again(
    rig: Rig, disk: Path, nr_pages: int, bits: int
) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect(nr_pages=nr_pages, bits=bits)
    frontend.tell(f"verify 16000 {32 * min(nr_pages, 4)}")
    for number in range(1, _NR_REPORTS):
        assert frontend.hear() == f"at={2000 * number}"
        rig.kill_backend()
        rig.start_backend()
    assert frontend.hear() == "at=16000"
    assert frontend.hear() == "answers=16000 wrong=0"


def test_killed_with_all_that_a_frontend_may_ask(
    rig: Rig, frontend: Frontend
) -> None:
    """Barriers, flushes with data, discards: each kill finds some of them."""
    frontend.tell("verify 2400 16 1")
    for number in range(1, _NR_REPORTS):
        assert frontend.hear() == f"at={300 * number}"
        rig.kill_backend()
        rig.start_backend()
    assert frontend.hear() == "at=2400"
    assert frontend.hear() == "answers=2400 wrong=0"


def test_a_restart_under_load(rig: Rig, frontend: Frontend) -> None:
    frontend.tell("verify 8000 32")
    for number in range(1, _NR_REPORTS):
        assert frontend.hear() == f"at={1000 * number}"
        # One that is still starting would die of the signal.
        rig.wait_log(": connected", number)
        rig.stop_backend()
        rig.start_backend()
    assert frontend.hear() == "at=8000"
    assert frontend.hear() == "answers=8000 wrong=0"


def test_killed_with_queues(rig: Rig, disk: Path) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect(nr_queues=4)
    frontend.tell("verify 8000 32")
    for number in range(1, _NR_REPORTS):
        assert frontend.hear() == f"at={1000 * number}"
        rig.kill_backend()
        rig.start_backend()
    assert frontend.hear() == "at=8000"
    assert frontend.hear() == "answers=32000 wrong=0"


@pytest.mark.parametrize("name", ["disk", "vmcore.7", "evtchnd.socket"])
def test_what_it_needs_comes_later(
    rig: Rig, frontend: Frontend, name: str
) -> None:
    """A guest that is connected is not told to close for the host's sake."""
    directory = rig.evtchnd.runtime_dir
    needed = directory / name if name != "disk" else rig.directory / name
    hidden = needed.with_suffix(".hidden")
    frontend.tell("verify 8000 32")
    for number in range(1, _NR_REPORTS):
        assert frontend.hear() == f"at={1000 * number}"
        rig.kill_backend()
        needed.rename(hidden)
        rig.start_backend()
        # Not the word, which is another one for each.
        rig.wait_log("is tried again", number)
        assert frontend.backend_state() is XenbusState.CONNECTED
        hidden.rename(needed)
    assert frontend.hear() == "at=8000"
    assert frontend.hear() == "answers=8000 wrong=0"
    frontend.close()
    assert not list(directory.glob("blkbackd.7-*"))


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
