# SPDX-License-Identifier: GPL-2.0-or-later
"""Frontends of all kinds: what each can take is what it gets."""

import struct

import pytest

from tests.component.netbackd.frames import (
    GUEST_MAC,
    TCP,
    frame,
    ip4,
    ip6,
    is_sound,
    ones_sum,
    tcp,
)
from tests.component.netbackd.traffic import OK, next_frame, receive, send
from tests.support.net.namespace import Namespace
from tests.support.net.rig import FEATURES, Frontend, Rig
from xenner.xenbus import XenbusState

_COPY = "request-rx-copy"
# linux/if_packet.h: before each packet the header of virtio_net.h.
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_MSS = 1448


def _send_large(net: Namespace, tap: str, family: int, payload: bytes) -> bytes:
    """TCP to be cut, for the guest; the frame."""
    headers = 54 if family == 4 else 74
    segment = tcp(payload)
    packet = (ip4 if family == 4 else ip6)(TCP, segment)
    data = frame(packet, kind=0x800 if family == 4 else 0x86DD)
    # Of the addresses and the like the sum is made already.
    addresses = data[headers - (28 if family == 4 else 52) : headers - 20]
    pseudo = ones_sum(addresses + struct.pack("!II", len(segment), TCP))
    at = headers - 4
    data = GUEST_MAC + data[6:at] + struct.pack("!H", pseudo) + data[at + 2 :]
    gso = (1 if family == 4 else 4, headers, _MSS, headers - 20, 16)
    with net.packets(tap) as raw:
        raw.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        raw.send(struct.pack("<BBHHHH", 1, *gso) + data)
    return data


@pytest.mark.parametrize("family", [4, 6])
def test_large_tcp(frontend: Frontend, family: int) -> None:
    """It comes uncut."""
    payload = bytes(i % 256 for i in range(30000))
    data = _send_large(frontend.net, frontend.tap, family, payload)
    headers = len(data) - len(payload)
    head, got = receive(frontend, data[12:14].hex())
    # A neighbour's advertisement is IPv6 too.
    while len(got) < 30000:
        head, got = receive(frontend, data[12:14].hex())
    assert head == f"flags=15 gso={1 if family == 4 else 2}:{_MSS} slots=8"
    assert got[headers:] == data[headers:]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "features",
    [
        (_COPY,),
        (_COPY, "feature-sg"),
        # Of before there was IPv6's, and the like.
        (_COPY, "feature-sg", "feature-gso-tcpv4", "feature-gso-tcpv6"),
        (*FEATURES, "feature-no-csum-offload"),
        (_COPY, "feature-gso-tcpv4", "feature-ipv6-csum-offload"),
    ],
)
def test_large_tcp_is_cut_for_those_that_cannot(
    rig: Rig, features: tuple[str, ...], family: int
) -> None:
    frontend = rig.start_frontend(320)
    frontend.plug()
    frontend.connect(is_split=False, features=features)
    has_csum = "feature-ipv6-csum-offload" in features and (
        "feature-no-csum-offload" not in features
    )
    payload = bytes(i * 7 % 256 for i in range(30000))
    data = _send_large(rig.net, frontend.tap, family, payload)
    headers = len(data) - len(payload)
    came = b""
    while len(came) < len(payload):
        head, got = receive(frontend, data[12:14].hex())
        if got[:6] != GUEST_MAC:
            continue  # the host's own
        flags = 3 if has_csum else 0  # blank
        assert head == f"flags={flags} gso=0:0 slots=1"
        assert is_sound(got) != has_csum
        assert len(got) <= headers + _MSS
        came += got[headers:]
    assert came == payload


@pytest.mark.parametrize("split", [(False, True), (True, False)])
def test_many_queues(rig: Rig, split: tuple[bool, ...]) -> None:
    """With one channel and with two, beside each other."""
    frontend = rig.start_frontend(320)
    frontend.plug()
    frontend.wait_backend(XenbusState.INIT_WAIT)
    most = int(frontend.node("multi-queue-max-queues") or "0")
    if most < 2:
        pytest.skip("one processor")
    frontend.connect(nr_queues=2, is_split=split)
    with rig.net.packets(frontend.tap) as raw:
        for queue in (0, 1, 0):
            data = frame(bytes([queue]) * 100)
            assert send(frontend, data, queue=queue) == OK
            assert next_frame(raw) == data


def test_one_that_says_nothing_of_its_buffers(rig: Rig) -> None:
    """No feature-rx-notify: they are looked for."""
    frontend = rig.start_frontend(320)
    frontend.plug()
    frontend.connect(features=(_COPY,))
    assert frontend.ask("mute") == "muted"
    frames = [frame(i.to_bytes(4, "big") * 20) for i in range(400)]
    with rig.net.packets(frontend.tap) as raw:
        for data in frames:
            raw.send(data)
        assert [receive(frontend)[1] for _ in frames] == frames


def test_a_boot_loader_and_then_a_kernel(rig: Rig) -> None:
    """One vif, two frontends after each other: the first can nothing. A control
    ring is not offered, and whoever has one is served without."""
    frontend = rig.start_frontend(320)
    frontend.plug(mtu=9000)
    small, large = frame(b"loader" * 20), frame(b"kernel" * 1000)
    for features in (("request-rx-copy",), FEATURES):
        is_kernel = features == FEATURES
        if is_kernel:
            for name in ("ctrl-ring-ref", "event-channel-ctrl"):
                rig.store.write(f"{frontend.path}/{name}", "9")
        frontend.connect(is_split=is_kernel, features=features)
        with rig.net.packets(frontend.tap) as raw:
            for data in (large, small):
                raw.send(data)
            # What takes several buffers is not for a loader.
            if is_kernel:
                assert receive(frontend)[1] == large
            assert receive(frontend)[1] == small
            assert send(frontend, large) == OK
            assert next_frame(raw) == large
        frontend.close()
        frontend.set_state(XenbusState.INITIALISING)
