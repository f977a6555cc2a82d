# SPDX-License-Identifier: GPL-2.0-or-later
"""A vif's whole life, and what goes through it."""

import itertools
import json
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest

from tests.component.netbackd.frames import (
    GUEST_MAC,
    TCP,
    UDP,
    frame,
    ip4,
    ip6,
    is_sound,
    tcp,
    udp,
)
from tests.component.netbackd.traffic import (
    CSUM_BLANK,
    OK,
    next_frame,
    receive,
    send,
)
from tests.support.evtchnd import LIMIT_S
from tests.support.net.rig import Frontend, Rig
from xenner.xenbus import XenbusState


@contextmanager
def open_wire(frontend: Frontend) -> Iterator[BinaryIO]:
    """A bridge, and a port at which the kernel has to finish each frame."""
    net = frontend.net
    with net.tap("wire") as wire:
        net.ip("link add br0 type bridge")
        for name in (frontend.tap, "wire"):
            net.ip(f"link set {name} master br0")
        for name in ("br0", "wire"):
            net.ip(f"link set {name} up")
        yield wire


def next_on(wire: BinaryIO) -> bytes:
    """The next frame of the guest's that leaves there."""
    while True:
        assert select.select([wire], [], [], 10)[0]
        data = os.read(wire.fileno(), 70000)
        if data[6:12] == GUEST_MAC:
            return data


def test_the_nodes_of_a_connected_vif(frontend: Frontend) -> None:
    assert frontend.node("feature-sg") == "1"
    assert frontend.node("feature-gso-tcpv4") == "1"
    assert frontend.node("feature-split-event-channels") == "1"
    assert frontend.node("feature-ctrl-ring") == "0"
    assert frontend.node("hotplug-status") == "connected"
    link = json.loads(frontend.net.ip(f"-j link show {frontend.tap}"))[0]
    assert link["mtu"] == 1500
    assert "LOWER_UP" in link["flags"]


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("slot", [4096, 100, 17])
def test_both_ways(rig: Rig, is_split: bool, slot: int) -> None:
    frontend = rig.start_frontend(320)
    frontend.plug()
    frontend.connect(is_split=is_split)
    with rig.net.packets(frontend.tap) as raw:
        for size in (46, 100, 241, 300):
            data = frame(bytes(i % 251 for i in range(size)))
            assert send(frontend, data, slot=max(slot, size // 16)) == OK
            assert next_frame(raw) == data
            raw.send(data)
            head, got = receive(frontend)
            assert got == data
            assert head == "flags=0 gso=0:0 slots=1"


def test_jumbo_frames(rig: Rig) -> None:
    frontend = rig.start_frontend(320)
    frontend.plug(mtu=9000)
    frontend.connect()
    data = frame(bytes(i % 253 for i in range(8990)))
    with rig.net.packets(frontend.tap) as raw:
        for _ in range(300):  # more than once around
            assert send(frontend, data) == OK
            assert next_frame(raw) == data
            raw.send(data)
            head, got = receive(frontend)
            assert got == data
            assert head == "flags=4 gso=0:0 slots=3"


@pytest.mark.parametrize("vid", [0, 5])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("family", [4, 6])
def test_checksums_that_the_guest_leaves(
    frontend: Frontend, vid: int, protocol: int, family: int
) -> None:
    segment = (tcp if protocol == TCP else udp)(b"x" * 333)
    packet = (ip4 if family == 4 else ip6)(protocol, segment)
    data = frame(packet, kind=0x800 if family == 4 else 0x86DD, vid=vid)
    with open_wire(frontend) as wire:
        for slot in (4096, 30):
            assert send(frontend, data, flags=CSUM_BLANK, slot=slot) == OK
            got = next_on(wire)
            assert len(got) == len(data)
            assert is_sound(got)


@pytest.mark.parametrize("family", [4, 6])
def test_large_tcp_is_cut_on_its_way(frontend: Frontend, family: int) -> None:
    payload = bytes(i * 7 % 256 for i in range(60000))
    packet = (ip4 if family == 4 else ip6)(TCP, tcp(payload))
    data = frame(packet, kind=0x800 if family == 4 else 0x86DD)
    gso = (1 if family == 4 else 2, 1400)
    with open_wire(frontend) as wire:
        assert send(frontend, data, flags=CSUM_BLANK, gso=gso) == OK
        came = b""
        while len(came) < len(payload):
            part = next_on(wire)
            assert len(part) <= 1400 + 74
            assert is_sound(part)
            came += part[54 if family == 4 else 74 :]
    assert came == payload


def test_status(rig: Rig, frontend: Frontend) -> None:
    data = frame(b"s" * 86)
    for _ in range(3):
        assert send(frontend, data) == OK

    row = json.loads(rig.status("--json"))["backend/vif/320/0"]
    assert (row["tx_packets"], row["tx_bytes"]) == (3, 300)
    assert "vif320.0" in rig.status()
    labels = '{devid="0",domid="320"}'
    assert f"\nnetbackd_tx_bytes_total{labels} 300.0\n" in rig.status(
        "--prometheus"
    )


def test_multicast_that_is_not_wanted(rig: Rig, frontend: Frontend) -> None:
    wanted, other = b"\x01\x00\x5e\x00\x00\x05", b"\x01\x00\x5e\x00\x00\x06"
    assert frontend.ask(f"group 1 {wanted.hex()}") == OK
    rig.store.write(f"{frontend.path}/request-multicast-control", "1")
    with rig.net.packets(frontend.tap) as raw:
        end = time.monotonic() + LIMIT_S
        for i in itertools.count():
            assert time.monotonic() < end, rig.log()
            data = frame(i.to_bytes(4, "big") * 20)[6:]
            for group in (other, wanted, b"\xff" * 6):
                raw.send(group + data)
            came = [receive(frontend)[1] for _ in range(2)]
            if came == [wanted + data, b"\xff" * 6 + data]:
                break
            # It was not followed yet, and all three have come.
            assert came == [other + data, wanted + data]
            assert receive(frontend)[1][:6] == b"\xff" * 6
        assert frontend.ask(f"group 0 {wanted.hex()}") == OK
        raw.send(wanted + data)
        raw.send(b"\xff" * 6 + data)
        assert receive(frontend)[1] == b"\xff" * 6 + data
    assert frontend.ask(f"group 0 {wanted.hex()}") == "status=-1"


@pytest.mark.parametrize("is_closed", [True, False])
def test_closed_and_connected_again(
    rig: Rig, frontend: Frontend, is_closed: bool
) -> None:
    """A driver that is loaded anew, and a kernel that has not closed."""
    data = frame(b"again" * 20)
    for _ in range(2):
        if is_closed:
            frontend.close()
            frontend.wait_carrier(False)
        frontend.set_state(XenbusState.INITIALISING)
        frontend.connect()
        with rig.net.packets(frontend.tap) as raw:
            assert send(frontend, data) == OK
            assert next_frame(raw) == data


def test_unplugged(rig: Rig, frontend: Frontend) -> None:
    assert rig.taps() == [frontend.tap]
    frontend.unplug()
    rig.wait_log("disconnected")
    other = rig.start_frontend(321)
    other.plug()
    other.connect()
    assert rig.taps() == [other.tap]


def test_a_frontend_that_is_gone(rig: Rig, frontend: Frontend) -> None:
    frontend.end()
    rig.store.remove(f"/local/domain/{frontend.domid}")
    frontend.wait_backend(XenbusState.CLOSED)
    frontend.wait_carrier(False)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_restart(rig: Rig, frontend: Frontend, is_killed: bool) -> None:
    """The guest does nothing about it, and its link is there again."""
    data = frame(b"restart" * 20)
    assert send(frontend, data) == OK
    if is_killed:
        rig.kill_backend()
    else:
        rig.stop_backend()
    assert rig.taps() == [frontend.tap]
    frontend.wait_carrier(False)
    rig.start_backend()
    frontend.wait_carrier()
    with rig.net.packets(frontend.tap) as raw:
        assert send(frontend, data) == OK
        assert next_frame(raw) == data
        raw.send(data)
        assert receive(frontend)[1] == data


def _tx_gso(rig: Rig) -> int:
    rows = json.loads(rig.status("--json"))
    return int(rows["backend/vif/320/0"]["tx_gso"])


def test_killed_under_load(rig: Rig, frontend: Frontend) -> None:
    """Again and again, with packets of many slots on their way."""
    size = 30000
    head = frame(ip4(TCP, tcp(b""), total=size - 14), kind=0x800)
    assert frontend.ask(f"frame {head.hex()}") == "framed"
    frontend.tell(f"tx {size} 1448 3600")
    for count in range(1, 7):
        rig.wait_log("connected, to", count)
        while _tx_gso(rig) == 0:
            pass
        assert frontend.backend_state() is XenbusState.CONNECTED
        rig.kill_backend()
        rig.start_backend()


def test_the_store_ends(rig: Rig, frontend: Frontend) -> None:
    """Another one is for another process; what is there stays for it."""
    assert rig.lose_store() == "netbackd: xenstore has ended"
    assert rig.taps() == [frontend.tap]


def test_a_tap_whose_device_went_meanwhile(
    rig: Rig, frontend: Frontend
) -> None:
    rig.kill_backend()
    rig.store.remove(frontend.backend)
    rig.start_backend()
    rig.wait_log("is no more")
    other = rig.start_frontend(321)
    other.plug()
    other.connect()
    assert rig.taps() == [other.tap]


def test_a_tap_that_somebody_removes(rig: Rig, frontend: Frontend) -> None:
    rig.net.ip(f"link del {frontend.tap}")
    frontend.wait_backend(XenbusState.CLOSING)
    assert "the tap has been removed" in rig.log()


def test_no_buffers(rig: Rig, frontend: Frontend) -> None:
    """What comes then waits in the tap, and is dropped when that is full."""
    net = rig.net
    with net.packets(frontend.tap) as raw:
        for i in range(3000):
            raw.send(frame(i.to_bytes(4, "big") * 20))
        # Nothing is lost of what there is room for.
        for i in range(256):
            assert receive(frontend)[1][14:18] == i.to_bytes(4, "big")
    said = net.ip(f"-s link show {frontend.tap}")
    found = re.search(r"TX:[^\n]*\n\s+\d+\s+\d+\s+\d+\s+(\d+)", said)
    assert found is not None, said
    assert int(found[1]) > 0
