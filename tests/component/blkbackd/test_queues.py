# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk with several rings."""

import json
from pathlib import Path

import pytest

from tests.support.blk.rig import Frontend, Rig
from xenner.xenbus import XenbusState

READ, WRITE = 0, 1
OK = "status=0 same=1"
NR_QUEUES = 4


@pytest.fixture
def queues(rig: Rig, disk: Path) -> Frontend:
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect(nr_queues=NR_QUEUES)
    return frontend


def _records(rig: Rig) -> int:
    return len(list(rig.evtchnd.runtime_dir.glob("blkbackd.7-*")))


def _status(rig: Rig, frontend: Frontend) -> dict[str, object]:
    path = frontend.backend.removeprefix("/local/domain/0/")
    found: dict[str, dict[str, object]] = json.loads(rig.status("--json"))
    return found[path]


@pytest.mark.parametrize(("nr_pages", "bits"), [(1, 64), (4, 32)])
def test_each_is_served(rig: Rig, disk: Path, nr_pages: int, bits: int) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect(nr_queues=NR_QUEUES, nr_pages=nr_pages, bits=bits)
    assert frontend.node("multi-queue-max-queues") == str(NR_QUEUES)
    assert "4 queues" in rig.log()
    for which in range(NR_QUEUES):
        frontend.choose_queue(which)
        assert frontend.ask(f"io {WRITE} {8 * which} 8 {50 + which}") == OK
        assert frontend.ask("ids 300") == "answers=300"
    # What one has written another reads.
    for which in range(NR_QUEUES):
        assert frontend.ask(f"io {READ} {8 * which} 8 {50 + which}") == OK


def test_all_at_once(queues: Frontend) -> None:
    queues.tell("verify 4000 32")
    while (line := queues.hear()).startswith("at="):
        pass
    assert line == "answers=16000 wrong=0"


def test_they_are_counted_as_one_disk(rig: Rig, queues: Frontend) -> None:
    for which in range(NR_QUEUES):
        queues.choose_queue(which)
        assert queues.ask(f"io {READ} 0 8 0") == OK
    counters = _status(rig, queues)
    assert counters["reads"] == NR_QUEUES
    histogram = counters["read_latency"]
    assert isinstance(histogram, list)
    assert sum(histogram) == NR_QUEUES


def test_fewer_after_a_reboot(rig: Rig, queues: Frontend) -> None:
    """And what was in flight in the others is nobody's."""
    assert _records(rig) == NR_QUEUES
    assert queues.ask(f"io {WRITE} 0 8 9") == OK
    rig.kill_backend()
    queues.set_state(XenbusState.INITIALISING)
    rig.store.remove(f"{queues.path}/multi-queue-num-queues")
    rig.start_backend()
    queues.connect()
    assert _records(rig) == 1
    assert queues.ask(f"io {READ} 0 8 9") == OK
