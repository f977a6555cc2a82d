# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices and networks that guests and their backends need."""

from __future__ import annotations

import fcntl
import os
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

_KVM_GET_API_VERSION = 0xAE00  # linux/kvm.h
_TUNGETFEATURES = 0x800454CF  # linux/if_tun.h
_IFF_TAP, _IFF_VNET_HDR = 0x0002, 0x4000


@pytest.mark.kvm
def test_kvm_answers() -> None:
    fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        assert fcntl.ioctl(fd, _KVM_GET_API_VERSION) == 12
    finally:
        os.close(fd)


def test_tun_can_make_taps() -> None:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4))
    finally:
        os.close(fd)
    (features,) = struct.unpack("=I", answer)
    assert features & _IFF_TAP
    assert features & _IFF_VNET_HDR


@pytest.fixture
def links() -> Iterator[Any]:
    """rtnetlink, after which no link of this test is left."""
    # The host's tests do without it.
    from pyroute2 import IPRoute

    with IPRoute() as links:
        before = {link["index"] for link in links.get_links()}
        yield links
        after = {link["index"] for link in links.get_links()}
        for index in after - before:
            links.link("del", index=index)
        assert not after - before


def test_a_tap_on_a_bridge(links: Any) -> None:
    suffix = uuid.uuid4().hex[:8]
    bridge, tap = f"xb{suffix}", f"xt{suffix}"

    def index_of(name: str) -> int:
        (index,) = links.link_lookup(ifname=name)
        return int(index)

    links.link("add", ifname=bridge, kind="bridge")
    links.link("add", ifname=tap, kind="tuntap", mode="tap")
    links.link("set", index=index_of(tap), master=index_of(bridge))
    links.link("set", index=index_of(tap), state="up")
    (link,) = links.get_links(index_of(tap))
    assert link.get_attr("IFLA_MASTER") == index_of(bridge)
    links.link("del", index=index_of(tap))
    links.link("del", index=index_of(bridge))
    assert not links.link_lookup(ifname=bridge)
