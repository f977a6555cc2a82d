# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk's whole life, and what is read and written in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.component.blkbackd.disk import DISK_BYTES
from tests.support.backend import number
from tests.support.blk.rig import Frontend, Rig
from tests.support.evtchnd import LIMIT_S, TOP
from xenner.types import Domid
from xenner.xenbus import XenbusState
from xenner.xldisk import parse_disk
from xennerd.nodes.device import disk_nodes
from xennerd.nodes.writing import replace_nodes

READ, WRITE, BARRIER, FLUSH = range(4)
OK = "status=0 same=1"


def _at(disk: Path, sector: int, count: int) -> bytes:
    with disk.open("rb") as file:
        file.seek(sector * 512)
        return file.read(count * 512)


def test_the_nodes_of_a_connected_disk(frontend: Frontend) -> None:
    assert frontend.node("sectors") == str(DISK_BYTES // 512)
    assert frontend.node("sector-size") == "512"
    assert frontend.node("info") == "0"
    assert frontend.node("feature-flush-cache") == "1"
    assert frontend.node("feature-barrier") == "1"
    assert frontend.node("feature-discard") == "1"
    assert frontend.node("feature-max-indirect-segments") == "256"
    assert frontend.node("hotplug-status") == "connected"


@pytest.mark.parametrize(
    ("nr_pages", "bits"), [(1, 64), (1, 32), (4, 64), (16, 32)]
)
def test_read_write_flush_barrier_discard(
    rig: Rig, disk: Path, nr_pages: int, bits: int
) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect(nr_pages=nr_pages, bits=bits)
    assert frontend.ask(f"io {READ} 2048 8 1") == OK
    assert frontend.ask(f"io {WRITE} 2049 3 200") == OK
    assert _at(disk, 2048, 5) == (
        bytes([1]) * 512 + bytes([200]) * 1536 + bytes([1]) * 512
    )
    assert frontend.ask(f"io {BARRIER} 100 88 201") == OK
    assert frontend.ask(f"io {FLUSH} 300 1 202") == OK
    assert frontend.ask(f"io {READ} 100 88 201") == OK
    # Indirect: more than 11 pages.
    assert frontend.ask(f"io {WRITE} 1000 2048 203") == OK
    assert frontend.ask(f"io {READ} 1000 2048 203") == OK
    assert _at(disk, 1000, 2048) == bytes([203]) * 2048 * 512
    assert frontend.ask(f"none {FLUSH}") == "status=0"
    assert frontend.ask(f"none {BARRIER}") == "status=0"
    assert frontend.ask("discard 1024 64") == "status=0"
    assert _at(disk, 1024, 64) == bytes(64 * 512)
    # More than a ring of them, to go round.
    assert frontend.ask("ids 1500") == "answers=1500"


def test_read_only(rig: Rig, disk: Path) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk, mode="r")
    frontend.connect()
    assert frontend.node("info") == "4"
    assert frontend.node("feature-discard") == "0"
    assert frontend.ask(f"io {READ} 2048 8 1") == OK
    assert frontend.ask(f"io {WRITE} 0 8 1").startswith("status=-1")
    assert frontend.ask("discard 0 8") == "status=-2"
    assert _at(disk, 0, 8) == bytes(4096)


def test_closed_and_connected_again(rig: Rig, frontend: Frontend) -> None:
    assert frontend.ask(f"io {WRITE} 0 8 77") == OK
    for _ in range(2):
        frontend.close()
        frontend.set_state(XenbusState.INITIALISING)
        frontend.connect()
        assert frontend.ask(f"io {READ} 0 8 77") == OK


def test_a_boot_loader_and_then_a_kernel(rig: Rig, disk: Path) -> None:
    """As GRUB: it never says that it is connected, closes in one step, and
    leaves empty nodes and the state that it found (xendisk.c)."""
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.wait_backend(XenbusState.INIT_WAIT)
    frontend.open_ring()
    frontend.publish()
    frontend.wait_backend(XenbusState.CONNECTED)
    assert frontend.ask(f"io {READ} 2048 8 1") == OK
    rig.kill_backend()
    assert frontend.ask("later 2048") == "asked"
    rig.start_backend()
    assert frontend.ask("answers") == "answers=1"
    frontend.set_state(XenbusState.CLOSED)
    frontend.wait_backend(XenbusState.CLOSED)
    for name in ("ring-ref", "event-channel"):
        rig.store.write(f"{frontend.path}/{name}", "")
    frontend.set_state(XenbusState.INITIALISING)
    frontend.connect(nr_queues=2, nr_pages=4)
    assert frontend.ask(f"io {READ} 1000 2048 0").startswith("status=0")


def test_a_frontend_that_waits_for_nothing(rig: Rig, disk: Path) -> None:
    """As Mini-OS' (blkfront.c): it is connected before anybody has offered it
    anything."""
    frontend = rig.start_frontend(7)
    rig.kill_backend()
    frontend.plug(disk)
    frontend.open_ring()
    frontend.publish()
    frontend.set_state(XenbusState.CONNECTED)
    rig.start_backend()
    frontend.wait_backend(XenbusState.CONNECTED)
    assert frontend.ask(f"io {WRITE} 0 8 77") == OK


def test_unplugged(rig: Rig, frontend: Frontend, disk: Path) -> None:
    """As libxl does it: online and state of the backend, then it waits."""
    rig.store.write(f"{frontend.backend}/online", "0")
    rig.store.write(f"{frontend.backend}/state", "5")
    assert frontend.ask(f"io {READ} 2048 8 1") == OK  # until it has closed
    frontend.set_state(XenbusState.CLOSING)
    frontend.set_state(XenbusState.CLOSED)
    frontend.wait_backend(XenbusState.CLOSED)
    rig.store.remove(frontend.backend)
    # The file is free, and blkbackd serves others.
    other = rig.start_frontend(8)
    other.plug(disk)
    other.connect()
    assert other.ask(f"io {READ} 2048 8 1") == OK
    assert frontend.backend_state() is XenbusState.UNKNOWN


def test_offline_is_not_gone(rig: Rig, frontend: Frontend, disk: Path) -> None:
    """A disk that is to go is served until its frontend closes, also by the
    process after this one; then it is nobody's, though its nodes are there."""
    rig.store.write(f"{frontend.backend}/online", "0")
    assert frontend.ask(f"io {READ} 2048 8 1") == OK
    rig.kill_backend()
    rig.start_backend()
    assert frontend.ask(f"io {READ} 2048 8 1") == OK
    assert frontend.backend_state() is XenbusState.CONNECTED
    frontend.close()
    rig.wait_log(": disconnected", 1)
    other = rig.start_frontend(8)
    other.plug(disk)
    other.connect()


def test_a_frontend_that_is_gone(
    rig: Rig, frontend: Frontend, disk: Path
) -> None:
    frontend.end()
    rig.store.remove(f"/local/domain/{frontend.domid}")
    frontend.wait_backend(XenbusState.CLOSED)
    other = rig.start_frontend(8)
    other.plug(disk)
    other.connect()


def test_written_anew_while_nobody_looked(
    rig: Rig, frontend: Frontend, disk: Path
) -> None:
    """As of a domain that is started again: all nodes go and come at once, and
    what blkbackd sees first is another disk."""
    another = disk.with_name("another")
    another.write_bytes(bytes([9]) * DISK_BYTES)
    paths = [frontend.backend, frontend.path]
    nodes = disk_nodes(Domid(7), parse_disk(f"{another},raw,xvda,r"))
    replace_nodes(rig.store, paths, nodes)
    frontend.connect()
    assert frontend.node("physical-device-path") == str(another)
    assert frontend.node("feature-max-indirect-segments") == "256"
    assert frontend.node("hotplug-status") == "connected"
    assert frontend.ask(f"io {READ} 0 8 9") == OK
    # And the first one is nobody's.
    other = rig.start_frontend(8)
    other.plug(disk)
    other.connect()


def test_two_writers_of_one_file(
    rig: Rig, frontend: Frontend, disk: Path
) -> None:
    other = rig.start_frontend(8)
    other.plug(disk)
    other.wait_backend(XenbusState.CLOSED)
    assert other.node("hotplug-status") == "error"
    error = f"/local/domain/0/error/backend/vbd/8/{other.backend[-5:]}/error"
    assert "in use" in (rig.read(error) or "")
    assert frontend.ask(f"io {READ} 2048 8 1") == OK


def test_another_file_after_one_that_was_refused(rig: Rig, disk: Path) -> None:
    frontend = rig.start_frontend(7)
    frontend.plug(disk.with_name("absent"))
    frontend.wait_backend(XenbusState.CLOSED)
    assert "No such file" in rig.log()
    rig.store.write(f"{frontend.backend}/params", str(disk))
    frontend.connect()
    assert frontend.ask(f"io {READ} 2048 8 1") == OK


def test_a_restart_between_requests(rig: Rig, frontend: Frontend) -> None:
    """What was in the ring before the new one came is served by it."""
    assert frontend.ask(f"io {WRITE} 0 8 77") == OK
    rig.stop_backend()
    assert frontend.backend_state() is XenbusState.CONNECTED
    for sector in (0, 8, 16):
        assert frontend.ask(f"later {sector}") == "asked"
    rig.start_backend()
    assert frontend.ask("answers") == "answers=3"
    assert frontend.ask(f"io {READ} 0 8 77") == OK


def test_a_second_one_touches_nothing(rig: Rig, frontend: Frontend) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "blkbackd"],
        cwd=TOP,
        env=rig.environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert second.returncode == 1
    path = rig.status_socket
    assert second.stderr == (
        f"blkbackd: somebody listens on {path} already (end that one first)\n"
    )
    assert frontend.ask(f"io {READ} 2048 8 1") == OK
    assert frontend.backend_state() is XenbusState.CONNECTED
    assert "reads" in rig.status()


def test_under_load(frontend: Frontend) -> None:
    answer = frontend.ask(f"bench {READ} 4096 32 0.2 {DISK_BYTES // 512}")
    assert number(answer, "requests") >= 32
