# SPDX-License-Identifier: GPL-2.0-or-later
"""What one vif may take from the others, and what it may send at all."""

import itertools
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.component.netbackd.frames import frame
from tests.component.netbackd.traffic import OK, next_frame, receive, send
from tests.support.net.rig import Frontend, Rig
from xenner.xenbus import XenbusState


def _counters(rig: Rig, frontend: Frontend) -> dict[str, int]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(rig.status_socket))
        text = b"".join(iter(partial(client.recv, 65536), b""))
    rows: dict[str, dict[str, int]] = json.loads(text)
    return rows[frontend.backend.removeprefix("/local/domain/0/")]


@contextmanager
def _flooding(rig: Rig) -> Iterator[Frontend]:
    """A guest that sends without an end, and has begun to."""
    flooder = rig.start_frontend(321)
    flooder.plug()
    flooder.connect()
    flooder.ask(f"frame {frame(b'flood').hex()}")
    flooder.tell("tx 64 0 3600")
    while _counters(rig, flooder)["tx_packets"] == 0:
        pass
    yield flooder
    assert flooder.backend_state() is XenbusState.CONNECTED
    flooder.end()


def test_a_flood_starves_nobody(rig: Rig, frontend: Frontend) -> None:
    with _flooding(rig) as flooder, rig.net.packets(frontend.tap) as raw:
        before = _counters(rig, flooder)["tx_packets"]
        for i in range(50):
            data = frame(bytes([i]) * 100)
            assert send(frontend, data) == OK
            assert next_frame(raw) == data
            raw.send(data)
            assert receive(frontend)[1] == data
        assert _counters(rig, flooder)["tx_packets"] > before
    assert _counters(rig, frontend)["tx_packets"] == 50


def test_a_guest_that_takes_nothing(rig: Rig, frontend: Frontend) -> None:
    """Its packets wait, so many and no more; others get theirs, all of them,
    and it can still send."""
    other = rig.start_frontend(321)
    other.plug()
    other.connect()
    net = rig.net
    net.ip("link add br0 type bridge")
    for name in (frontend.tap, other.tap):
        net.ip(f"link set {name} master br0 txqueuelen 100")
    net.ip("link set br0 up")
    bursts = _bursts()
    ours_before, others_before = _dropped(frontend), _dropped(other)
    with net.packets("br0") as raw:
        while (
            _dropped(frontend) == ours_before
            or not _counters(rig, frontend)["rx_starved"]
        ):
            burst = next(bursts)
            for data in burst:
                raw.send(data)
            assert [receive(other)[1] for _ in burst] == burst
    assert _dropped(other) == others_before
    data = frame(b"still" * 20)
    with net.packets(frontend.tap) as raw:
        assert send(frontend, data) == OK
        assert next_frame(raw) == data
    # It takes them after all: what waited for it comes, in order. The host has
    # had some buffers for frames of its own.
    came = [receive(frontend)[1] for _ in range(200)]
    assert came == sorted(set(came))


def _bursts() -> Iterator[list[bytes]]:
    """Frames by the fifty, fewer than a tap keeps; no two are alike."""
    for first in itertools.count(0, 50):
        numbers = range(first, first + 50)
        yield [frame(i.to_bytes(4, "big") * 20) for i in numbers]


def _dropped(frontend: Frontend) -> int:
    """Packets for the guest that its tap had no room for."""
    said = frontend.net.ip(f"-s link show {frontend.tap}")
    found = re.search(r"TX:[^\n]*\n\s+\d+\s+\d+\s+\d+\s+(\d+)", said)
    assert found is not None, said
    return int(found[1])


def test_a_rate_that_changes(rig: Rig) -> None:
    frontend = rig.start_frontend(320)
    # Beyond the first interval's, nothing for a long time.
    frontend.plug(rate="1000,4000000000")
    frontend.wait_backend(XenbusState.INIT_WAIT)
    nr_queues = int(frontend.node("multi-queue-max-queues") or "1")
    frontend.connect(nr_queues=nr_queues)
    data = frame(b"y" * 986)
    sent = 0
    while True:
        line = f"send {sent % nr_queues} 0 0 0 4096 {data.hex()}"
        frontend.tell(line)
        counters = _counters(rig, frontend)
        while counters["tx_packets"] == sent and not counters["tx_throttled"]:
            counters = _counters(rig, frontend)
        if counters["tx_throttled"]:
            break
        assert frontend.hear().split() == [OK]
        sent += 1
    assert counters["tx_packets"] == sent > 0
    # Live.
    rig.store.write(f"{frontend.backend}/rate", "")
    assert frontend.hear().split() == [OK]
    for i in range(200):
        assert send(frontend, data, queue=i % nr_queues) == OK
    assert _counters(rig, frontend)["tx_packets"] == sent + 201
