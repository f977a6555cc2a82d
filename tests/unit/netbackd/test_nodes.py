# SPDX-License-Identifier: GPL-2.0-or-later
"""What toolstack and frontend write, and what is made of it."""

from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbackd.config import VifConfig, Vlan, parse_vlans, read_config
from netbackd.engine import Rate, parse_rate
from netbackd.frontend import Features, read_features, read_rings
from xenner import xlvif
from xenner.errors import GuestError, HostError
from xenner.types import Domid

PATH = "backend/vif/7/2"
ONE = {
    "request-rx-copy": "1",
    "tx-ring-ref": "8",
    "rx-ring-ref": "9",
    "event-channel": "5",
}


def test_a_vif_that_says_nothing() -> None:
    nodes: dict[str, str] = {}
    assert read_config(nodes.get, PATH) == VifConfig("vif7.2")


def test_bridge_route_and_script() -> None:
    nodes = {"script": "/etc/xen/scripts/vif-bridge", "bridge": "b"}
    assert read_config(nodes.get, PATH) == VifConfig("vif7.2", bridge="b")
    nodes = {"gatewaydev": "eth0", "ip": "10.0.0.1 fd00:7::/64"}
    nodes["mtu"] = "1400"
    assert read_config(nodes.get, PATH) == VifConfig(
        "vif7.2",
        1400,
        gateway="eth0",
        networks=(IPv4Network("10.0.0.1"), IPv6Network("fd00:7::/64")),
    )
    # A script renames it by itself, as Xen's do.
    nodes = {"script": "/opt/vif-mine", "gatewaydev": "eth0"}
    nodes["bridge"] = "ovsbr0.100:200"
    nodes["vifname"] = "web0"
    assert read_config(nodes.get, PATH) == VifConfig(
        "vif7.2", script="/opt/vif-mine", netdev="eth0", later_name="web0"
    )


@pytest.mark.parametrize(
    "nodes",
    [
        {"vifname": "web%d"},
        {"vifname": "."},
        {"bridge": "sixteen-letters-"},
        {"gatewaydev": "a/b"},
        {"gatewaydev": "lan", "ip": "here"},
        {"gatewaydev": "lan", "ip": "192.0.2.7/24"},
    ],
)
def test_what_is_no_wish(nodes: dict[str, str]) -> None:
    with pytest.raises(HostError, match=r"is no name|ip: "):
        read_config(nodes.get, PATH)


def test_vlans() -> None:
    assert parse_vlans("") == ()
    assert parse_vlans("10") == (Vlan(10, True),)
    assert parse_vlans("10p/20/30-31") == (
        *(Vlan(10, True), Vlan(20, False)),
        *(Vlan(30, False), Vlan(31, False)),
    )


@pytest.mark.parametrize(
    "text", ["0", "4095", "p", "ten", "3-2", "1-3p", "1,2", "99999", "-1"]
)
def test_what_is_no_vlan(text: str) -> None:
    with pytest.raises(HostError, match="is no VLAN"):
        parse_vlans(text)


def test_rates() -> None:
    assert parse_rate(None) == parse_rate("") == Rate()
    assert parse_rate("1000,50000") == Rate(1000, 50000)
    assert parse_rate("0,50000") == parse_rate("9,0") == Rate()
    for text in ("1000", "a,b", "1,2,3", "-1,5", "4294967296,1", "9" * 99):
        with pytest.raises(HostError):
            parse_rate(text)


@pytest.mark.parametrize(
    "text", ["100Gb/s@1s", "9GB/s@999s", "1B/s@4294s", "1MB/s", "999GB/s"]
)
def test_rates_of_domain_files(text: str) -> None:
    """As fast as the file says, whatever the interval."""
    wanted = xlvif.parse_rate(text)
    rate = parse_rate(f"{wanted.nr_bytes},{wanted.interval_us}")
    assert rate.rate_bytes < 1 << 32
    ratio = (
        rate.rate_bytes
        * wanted.interval_us
        / (wanted.nr_bytes * rate.interval_us)
    )
    assert ratio == pytest.approx(1, rel=1e-4)


def test_one_channel_or_two() -> None:
    (ring,) = read_rings(ONE.get, Domid(7))
    assert (ring.tx_ref, ring.rx_ref) == (8, 9)
    assert ring.tx_port == ring.rx_port == 5
    nodes = {**ONE, "event-channel-tx": "6", "event-channel-rx": "7"}
    (ring,) = read_rings(nodes.get, Domid(7))
    assert (ring.tx_port, ring.rx_port) == (6, 7)


def test_queues() -> None:
    nodes = {"request-rx-copy": "1", "multi-queue-num-queues": "2"}
    for i in range(2):
        for name, value in ONE.items():
            nodes.setdefault(f"queue-{i}/{name}", f"{value}{i}")
    rings = read_rings(nodes.get, Domid(7))
    assert [(r.tx_ref, r.tx_port) for r in rings] == [(80, 50), (81, 51)]


def test_features_follow_from_each_other() -> None:
    nothing: dict[str, str] = {}
    assert read_features(nothing.get) == Features()
    every = {
        *("feature-sg", "feature-gso-tcpv4", "feature-gso-tcpv6"),
        "feature-ipv6-csum-offload",
    }
    nodes = dict.fromkeys(every, "1")
    assert read_features(nodes.get) == Features(True, True, True, True)
    nodes["feature-no-csum-offload"] = "1"
    assert read_features(nodes.get) == Features(can_sg=True)
    del nodes["feature-no-csum-offload"], nodes["feature-sg"]
    assert read_features(nodes.get) == Features(has_csum=True)
    nodes = {"feature-rx-notify": "1", "feature-gso-tcpv4": "1"}
    assert read_features(nodes.get) == Features(has_rx_notify=True)
    # A tap would leave IPv6's blank as well.
    nodes["feature-sg"] = "1"
    assert not read_features(nodes.get).has_csum


def test_queues_with_one_channel_and_with_two() -> None:
    nodes = {"request-rx-copy": "1", "multi-queue-num-queues": "2"}
    for i in range(2):
        for name, value in ONE.items():
            nodes[f"queue-{i}/{name}"] = value
    nodes |= {"queue-1/event-channel-tx": "6", "queue-1/event-channel-rx": "7"}
    rings = read_rings(nodes.get, Domid(7))
    assert [(r.tx_port, r.rx_port) for r in rings] == [(5, 5), (6, 7)]


_NAMES = st.sampled_from(
    [*ONE, "multi-queue-num-queues", "event-channel-tx", "queue-0/tx-ring-ref"]
)


@given(st.dictionaries(_NAMES, st.text(max_size=12)))
def test_anything_is_refused_in_words(nodes: dict[str, str]) -> None:
    try:
        rings = read_rings(({**ONE, **nodes}).get, Domid(7))
    except GuestError:
        return
    assert 1 <= len(rings) <= 8


@given(
    st.dictionaries(
        st.sampled_from(["vifname", "mtu", "vlan", "script", "bridge", "ip"]),
        st.text(max_size=20),
    )
)
def test_any_wish_is_one_or_refused(nodes: dict[str, str]) -> None:
    try:
        config = read_config(nodes.get, PATH)
    except HostError:
        return
    assert 1 <= len(config.name.encode()) <= 15
    assert config.mtu == 0 or 68 <= config.mtu <= 65521
