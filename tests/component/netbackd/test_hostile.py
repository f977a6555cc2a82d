# SPDX-License-Identifier: GPL-2.0-or-later
"""A frontend that lies: it is answered, and nobody else notices."""

import pytest

from tests.component.netbackd.frames import TCP, UDP, frame, ip4, ip6, tcp, udp
from tests.support.net.rig import Frontend, Rig
from xenner.xenbus import XenbusState

GOOD_REF = 8 + 16
MORE, EXTRA = 4, 8
LARGE = frame(ip4(TCP, tcp(b"z" * 8000)), kind=0x800)


def _is_well(frontend: Frontend) -> bool:
    data = frame(b"well" * 30).hex()
    return frontend.ask(f"send 0 0 0 0 4096 {data}") == "status=0"


@pytest.mark.parametrize(
    "slots",
    [
        f"{GOOD_REF} 0 0 13",  # no Ethernet header
        f"{GOOD_REF} 0 0 0",
        f"{GOOD_REF} 4090 0 60",
        f"{GOOD_REF} 65535 0 65535",
        "7 0 0 60",  # a grant that is none
        "0 0 0 60",
        "1 0 0 60",
        "4000000000 0 0 60",
        f"{GOOD_REF} 0 {MORE} 100 {GOOD_REF} 0 0 101",
        f"{GOOD_REF} 0 {MORE} 100 {GOOD_REF} 4095 0 2",
        f"{GOOD_REF} 0 {MORE} 65535 {GOOD_REF} 0 0 4096",
        f"{GOOD_REF} 0 {MORE} 100 7 0 0 50",
        f"{GOOD_REF} 0 {MORE} 1000 " * 18 + f"{GOOD_REF} 0 0 1",
    ],
)
def test_slots(frontend: Frontend, slots: str) -> None:
    answer = frontend.ask(f"raw {slots}")
    assert set(answer.removeprefix("status=").split()) == {"-1"}
    assert _is_well(frontend)


@pytest.mark.parametrize(
    ("flags", "gso", "data"),
    [
        (1, "0 0", frame(b"no IP" * 20)),
        (1, "0 0", frame(ip4(47, b"GRE" * 20), kind=0x800)),
        (1, "0 0", frame(ip4(TCP, tcp(b""))[:30], kind=0x800)),
        (1, "0 0", frame(ip4(UDP, udp(b"x" * 90), total=400), kind=0x800)),
        (1, "0 0", frame(ip4(UDP, udp(b"x" * 90), total=24), kind=0x800)),
        (1, "0 0", frame(ip6(0, b"\0\xff" * 200), kind=0x86DD)),
        (1, "0 0", frame(ip6(0, b"\0\0" * 200), kind=0x86DD)),
        (1, "1 0", LARGE),
        (1, "2 1448", LARGE),  # of IPv6, it says
        (1, "3 1448", LARGE),
        (1, "255 1448", LARGE),
        (1, "1 1448", frame(ip4(UDP, udp(b"z" * 8000)), kind=0x800)),
        (1, "1 1448", LARGE + b"more"),
        (1, "1 1448", frame(b"no IP" * 2000)),
        (1, "1 1448", LARGE[:46] + b"\xf0" + LARGE[47:60]),
    ],
)
def test_lies_in_headers(
    frontend: Frontend, flags: int, gso: str, data: bytes
) -> None:
    with frontend.net.packets(frontend.tap) as raw:
        answer = frontend.ask(f"send 0 {flags} {gso} 4096 {data.hex()}")
        assert set(answer.removeprefix("status=").split()) == {"-1"}
        assert _is_well(frontend)
        # Of all that nothing came out.
        while (came := raw.recv(70000))[12:14] != b"\x88\xb5":
            assert came[6:12] != data[6:12]
        assert came[14:18] == b"well"


@pytest.mark.parametrize(
    "line",
    ["index 1000", "extras 0 1", "extras 3 1", "extras 9 1", "extras 2 77"],
)
def test_what_no_ring_can_hold(rig: Rig, frontend: Frontend, line: str) -> None:
    assert frontend.ask(line)
    frontend.wait_backend(XenbusState.CLOSING)
    assert "no ring can hold" in rig.log()
    frontend.set_state(XenbusState.CLOSED)
    frontend.wait_backend(XenbusState.CLOSED)
    # netbackd itself is well.
    other = rig.start_frontend(321)
    other.plug()
    other.connect()
    assert _is_well(other)


def test_requests_that_change_while_they_are_served(
    frontend: Frontend,
) -> None:
    assert frontend.ask("scribble 5000") == "answers=5000"
    assert _is_well(frontend)


def test_buffers_with_bad_grants(rig: Rig, frontend: Frontend) -> None:
    assert frontend.ask("spoil") == "spoiled"
    with rig.net.packets(frontend.tap) as raw:
        for _ in range(400):
            raw.send(frame(b"b" * 60))
        # Those that were taken before are good.
        while frontend.ask("receive 0 10000") != "status=-1":
            pass
    assert _is_well(frontend)


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ("tx-ring-ref", "7"),
        ("rx-ring-ref", "99999999999999999999999"),
        ("tx-ring-ref", "eight"),
        ("event-channel-tx", "1023"),
        ("event-channel-rx", "-1"),
        ("multi-queue-num-queues", "9"),
        ("multi-queue-num-queues", "0"),
        ("multi-queue-num-queues", "2"),
        ("request-rx-copy", "0"),
    ],
)
def test_nodes_that_make_no_sense(rig: Rig, node: str, value: str) -> None:
    frontend = rig.start_frontend(320)
    frontend.plug()
    frontend.wait_backend(XenbusState.INIT_WAIT)
    ports = frontend.ask("open 1 1").removeprefix("ports=").rstrip(",")
    tx_port, rx_port = ports.split(":")
    nodes = {
        "tx-ring-ref": "8",
        "rx-ring-ref": "9",
        "event-channel-tx": tx_port,
        "event-channel-rx": rx_port,
        "request-rx-copy": "1",
        node: value,
    }
    for name, text in nodes.items():
        rig.store.write(f"{frontend.path}/{name}", text)
    frontend.set_state(XenbusState.CONNECTED)
    frontend.wait_backend(XenbusState.CLOSING)
    assert "domain 320: " in rig.log()
