# SPDX-License-Identifier: GPL-2.0-or-later
"""A frontend that lies: it is answered, and nobody else notices."""

import json
from pathlib import Path

import pytest

from tests.support.blk.rig import DEVICE, Frontend, Rig
from xenner.xenbus import XenbusState

GOOD_REF = 8 + 160
OK = "status=0 same=1"
NR_SLOTS = 512  # of a ring of 16 pages


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"raw 0 1 0 {GOOD_REF} 0 7", 0),
        ("raw 0 1 0 7 0 7", -1),  # a grant that is none
        ("raw 0 1 0 4000000000 0 7", -1),
        (f"raw 0 0 0 {GOOD_REF} 0 7", -1),
        (f"raw 1 12 0 {GOOD_REF} 0 7", -1),
        (f"raw 1 255 0 {GOOD_REF} 0 7", -1),
        (f"raw 1 1 0 {GOOD_REF} 0 8", -1),
        (f"raw 1 1 0 {GOOD_REF} 7 6", -1),
        (f"raw 0 1 16384 {GOOD_REF} 0 0", -1),  # past the end
        (f"raw 0 1 16383 {GOOD_REF} 0 1", -1),
        (f"raw 0 1 18446744073709551615 {GOOD_REF} 0 7", -1),
        (f"raw 4 1 0 {GOOD_REF} 0 7", -2),
        (f"raw 99 1 0 {GOOD_REF} 0 7", -2),
        ("discard 16383 2", -1),
        ("discard 16384 18446744073709551615", -1),
        ("indirect 0 20 7", -1),  # its segments are not granted
        (f"indirect 0 0 {GOOD_REF}", -1),
        (f"indirect 0 257 {GOOD_REF}", -1),
        (f"indirect 6 20 {GOOD_REF}", -1),
    ],
)
def test_a_request(frontend: Frontend, line: str, status: int) -> None:
    assert frontend.ask(line) == f"status={status}"
    assert frontend.ask("io 0 2048 8 1") == OK


def test_many_of_one_id(frontend: Frontend) -> None:
    assert frontend.ask("ids 200") == "answers=200"


def test_a_flood_is_answered(frontend: Frontend) -> None:
    assert frontend.ask("flood 20000") == "answers=20000"
    assert frontend.ask("io 0 2048 8 1") == OK


def test_a_flood_leaves_others_alone(rig: Rig, frontend: Frontend) -> None:
    """It does not end before they have done what they do."""
    disk = rig.directory / "another"
    disk.write_bytes(bytes(1 << 20))
    other = rig.start_frontend(8)
    other.plug(disk)
    other.connect()
    frontend.tell("flood 4000000000")
    other.tell("verify 4000 8")
    while (line := other.hear()).startswith("at="):
        pass
    assert line == "answers=4000 wrong=0"
    frontend.end()


def test_scattered_pages_take_no_mapping_each(rig: Rig, disk: Path) -> None:
    """One ring full of 1 MiB reads into two pages by turns asks for 131072
    pages at once; a process may have 65530 mappings (vm.max_map_count). Those
    of another guest, which has a disk of its own, all succeed."""
    attacker = rig.start_frontend(7)
    attacker.plug(disk)
    attacker.connect(nr_pages=16)
    other_disk = rig.directory / "another"
    other_disk.write_bytes(bytes(1 << 20))
    other = rig.start_frontend(8)
    other.plug(other_disk)
    other.connect()
    for frontend in (attacker, other):
        assert frontend.ask("alternate 1") == "answers=1 errors=0"
    before = _nr_mappings(rig)
    attacker.tell("alternate 2000")
    other.tell("alternate 1000")
    most = max(_nr_mappings(rig) for _ in range(50))
    assert other.hear() == "answers=1000 errors=0"
    assert attacker.hear() == "answers=2000 errors=0"
    assert _counter(rig, 7, "max_depth") == NR_SLOTS
    assert most < before + 100


def _nr_mappings(rig: Rig) -> int:
    assert rig.backend is not None
    maps = Path(f"/proc/{rig.backend.pid}/maps")
    return maps.read_bytes().count(b"\n")


def _counter(rig: Rig, domid: int, name: str) -> int:
    rows = json.loads(rig.status("--json"))
    return int(rows[f"backend/vbd/{domid}/{DEVICE}"][name])


def test_requests_that_change_while_they_are_served(frontend: Frontend) -> None:
    assert frontend.ask("scribble 2000") == "answers=2000"
    assert frontend.ask("none 3") == "status=0"


def test_an_index_of_one_queue_that_cannot_be(rig: Rig, disk: Path) -> None:
    """It is the end of all of them, and of nobody else."""
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect(nr_queues=4)
    frontend.choose_queue(2)
    assert frontend.ask("index 1000") == "moved"
    frontend.wait_backend(XenbusState.CLOSING)
    error = f"/local/domain/0/error/backend/vbd/7/{DEVICE}/error"
    assert "more than it can hold" in (rig.read(error) or "")
    frontend.set_state(XenbusState.CLOSED)
    frontend.wait_backend(XenbusState.CLOSED)
    assert not list(rig.evtchnd.runtime_dir.glob("blkbackd.7-*"))
    other = rig.start_frontend(8)
    other.plug(disk)
    other.connect(nr_queues=4)
    assert other.ask("io 0 2048 8 1") == OK


def test_one_ring_for_two_queues(rig: Rig, disk: Path) -> None:
    """Who asks for it may have twice as many answers, and nobody else."""
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.wait_backend(XenbusState.INIT_WAIT)
    store, path = rig.store, frontend.path
    store.write(f"{path}/multi-queue-num-queues", "2")
    for which in range(2):
        frontend.open_ring()
        store.write(f"{path}/queue-{which}/ring-ref", "8")
        store.write(f"{path}/queue-{which}/event-channel", str(frontend.port))
    frontend.set_state(XenbusState.INITIALISED)
    frontend.wait_backend(XenbusState.CONNECTED)
    frontend.tell("flood 4000000000")
    other_disk = disk.with_name("another")
    other_disk.write_bytes(bytes(1 << 20))
    other = rig.start_frontend(8)
    other.plug(other_disk)
    other.connect()
    assert other.ask("io 0 2048 8 0") == "status=-1 same=0"
    assert other.ask("io 0 0 8 0") == OK
    frontend.close()
    frontend.end()


def test_an_index_that_cannot_be(rig: Rig, frontend: Frontend) -> None:
    other = rig.start_frontend(8)
    assert frontend.ask("index 1000") == "moved"
    frontend.wait_backend(XenbusState.CLOSING)
    assert "more than it can hold" in rig.log()
    frontend.set_state(XenbusState.CLOSED)
    frontend.wait_backend(XenbusState.CLOSED)
    # Its domain may boot anew, and have its disk again.
    frontend.set_state(XenbusState.INITIALISING)
    frontend.connect()
    assert frontend.ask("io 0 2048 8 1") == OK
    # blkbackd itself is well.
    disk = rig.directory / "another"
    disk.write_bytes(bytes(1 << 20))
    other.plug(disk)
    other.connect()
    assert other.ask("io 0 0 8 0") == OK


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ("ring-ref", "7"),
        ("ring-ref", "99999999999999999999999"),
        ("ring-ref", "eight"),
        ("event-channel", "1023"),
        ("event-channel", "-1"),
        ("protocol", "arm-abi"),
        # What is said of these would be more than a node can be.
        ("protocol", "\x01" * 1500),
        ("ring-ref", "\x01" * 1500),
        ("ring-page-order", "5"),
        ("multi-queue-num-queues", "0"),
        ("multi-queue-num-queues", "5"),
        ("multi-queue-num-queues", "2"),  # whose nodes are not there
    ],
)
def test_nodes_that_make_no_sense(
    rig: Rig, disk: object, node: str, value: str
) -> None:
    frontend = rig.start_frontend(7)
    path = rig.directory / "disk"
    frontend.plug(path)
    frontend.wait_backend(XenbusState.INIT_WAIT)
    frontend.open_ring()
    rig.store.write(f"{frontend.path}/ring-ref", "8")
    rig.store.write(f"{frontend.path}/event-channel", str(frontend.port))
    rig.store.write(f"{frontend.path}/{node}", value)
    frontend.set_state(XenbusState.INITIALISED)
    frontend.wait_backend(XenbusState.CLOSING)
    assert "domain 7: " in rig.log()
    error = f"/local/domain/0/error/backend/vbd/7/{DEVICE}/error"
    assert "domain 7: " in (rig.read(error) or "")


@pytest.mark.parametrize("value", ["no path!", "/a//b", "/" + "a" * 3500])
def test_a_frontend_that_is_no_path(
    rig: Rig, frontend: Frontend, disk: Path, value: str
) -> None:
    """An operator's, and the end of no other disk."""
    other = rig.start_frontend(8)
    other.plug(disk, mode="r!", frontend=value)
    rig.wait_log("frontend is no path")
    assert frontend.ask("io 0 2048 8 1") == OK
    rig.store.write(f"{other.backend}/frontend", other.path)
    other.connect()
    assert other.ask("io 0 2048 8 1") == OK


def test_a_domain_that_cannot_be(
    rig: Rig, frontend: Frontend, disk: Path
) -> None:
    """With all that would have it connected."""
    path = f"/local/domain/0/backend/vbd/99999999999/{DEVICE}"
    for name in ("ring-ref", "event-channel"):
        rig.store.write(f"/nobody/{name}", "8")
    rig.store.write("/nobody/state", str(int(XenbusState.INITIALISED)))
    nodes = {"frontend": "/nobody", "online": "1", "mode": "r!", "params": disk}
    for name, value in nodes.items():
        rig.store.write(f"{path}/{name}", str(value))
    rig.store.write(f"{path}/state", str(int(XenbusState.INIT_WAIT)))
    other = rig.start_frontend(8)
    other.plug(disk.with_name("absent"))
    rig.wait_log("No such file")
    assert frontend.ask("io 0 2048 8 1") == OK
    assert "99999999999" not in rig.log()
