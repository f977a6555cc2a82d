# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a tap is put: a bridge, a route, what a script makes of it."""

import json
from typing import Any

import pytest

from tests.component.netbackd.frames import frame, ip6_icmp
from tests.component.netbackd.traffic import OK, next_frame, send
from tests.support.net.rig import Frontend, Rig
from xenner.xenbus import XenbusState


def _link(rig: Rig, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(
        rig.net.ip(f"-j -d link show {name}")
    )
    return found[0]


def _plugged(rig: Rig, **nodes: object) -> Frontend:
    frontend = rig.start_frontend(320)
    frontend.plug(**nodes)
    return frontend


def test_a_bridge_and_its_mtu(rig: Rig) -> None:
    rig.net.ip("link add xenbr0 mtu 9000 type bridge")
    frontend = _plugged(rig, bridge="xenbr0")
    frontend.connect()
    link = _link(rig, frontend.tap)
    assert (link["master"], link["mtu"]) == ("xenbr0", 9000)
    assert link["address"] == "fe:ff:ff:ff:ff:ff"
    assert frontend.node("hotplug-status") == "connected"


def test_a_bridge_that_comes_later(rig: Rig) -> None:
    frontend = _plugged(rig, bridge="xenbr0")
    frontend.wait_backend(XenbusState.INIT_WAIT)
    assert frontend.node("hotplug-status") == ""
    rig.wait_node(
        f"{frontend.backend}/hotplug-error", "there is no bridge xenbr0 (yet)"
    )
    frontend.publish(1)
    frontend.wait_backend(XenbusState.CONNECTED)
    # Up, it would lead to the host itself.
    assert "UP" not in _link(rig, frontend.tap)["flags"]
    assert frontend.node("carrier") == "0"
    rig.net.ip("link add xenbr0 type bridge")
    rig.wait_node(f"{frontend.backend}/hotplug-status", "connected")
    assert _link(rig, frontend.tap)["master"] == "xenbr0"
    assert frontend.node("hotplug-error") == ""
    rig.wait_node(f"{frontend.backend}/carrier", "1")
    # And again: who has made it anew need not know of its ports.
    for _ in range(2):
        rig.net.ip("link del xenbr0")
        rig.wait_node(
            f"{frontend.backend}/hotplug-error",
            "there is no bridge xenbr0 (yet)",
        )
        rig.wait_node(f"{frontend.backend}/carrier", "0")
        rig.net.ip("link add xenbr0 type bridge")
        rig.wait_node(f"{frontend.backend}/hotplug-error", "")
        assert _link(rig, frontend.tap)["master"] == "xenbr0"


def _wait_for_none(frontend: Frontend, name: str) -> None:
    why = f"there is no bridge {name} (yet)"
    frontend.rig.wait_node(f"{frontend.backend}/hotplug-error", why)


@pytest.mark.parametrize("is_connected", [False, True])
def test_who_waits_for_a_bridge_is_told_another(
    rig: Rig, is_connected: bool
) -> None:
    rig.net.ip("link add lan type bridge")
    frontend = _plugged(rig, bridge="gone")
    frontend.wait_backend(XenbusState.INIT_WAIT)
    _wait_for_none(frontend, "gone")
    if is_connected:
        frontend.publish(1)
        frontend.wait_backend(XenbusState.CONNECTED)
    rig.store.write(f"{frontend.backend}/bridge", "gone2")
    _wait_for_none(frontend, "gone2")
    rig.store.write(f"{frontend.backend}/bridge", "lan")
    rig.wait_node(f"{frontend.backend}/hotplug-status", "connected")
    assert _link(rig, frontend.tap)["master"] == "lan"
    assert frontend.node("hotplug-error") == ""
    if not is_connected:
        frontend.connect()
    rig.wait_node(f"{frontend.backend}/carrier", "1")
    # And one that has lost it.
    rig.net.ip("link add lan2 type bridge")
    rig.net.ip("link del lan")
    _wait_for_none(frontend, "lan")
    rig.store.write(f"{frontend.backend}/bridge", "lan2")
    rig.wait_node(f"{frontend.backend}/hotplug-error", "")
    assert _link(rig, frontend.tap)["master"] == "lan2"
    assert frontend.backend_state() is XenbusState.CONNECTED


def test_who_waits_for_a_bridge_is_told_all_else(rig: Rig) -> None:
    frontend = _plugged(rig, bridge="gone", vlan="5000")
    frontend.wait_backend(XenbusState.CLOSED)
    rig.store.write(f"{frontend.backend}/vlan", "")
    _wait_for_none(frontend, "gone")
    rig.store.write(f"{frontend.backend}/vifname", "web0")
    while rig.taps() != ["web0"]:
        pass
    rig.store.write(f"{frontend.backend}/vlan", "5000")
    frontend.wait_backend(XenbusState.CLOSED)
    rig.store.write(f"{frontend.backend}/vlan", "")
    _wait_for_none(frontend, "gone")
    for name in ("bridge", "vifname"):
        rig.store.write(f"{frontend.backend}/{name}", "")
    frontend.connect()


def test_a_name_and_an_mtu(rig: Rig) -> None:
    frontend = _plugged(rig, vifname="web0", mtu=1300)
    frontend.wait_backend(XenbusState.INIT_WAIT)
    assert rig.taps() == ["web0"]
    assert _link(rig, "web0")["mtu"] == 1300
    frontend.unplug()
    while rig.taps():
        pass


def test_an_mtu_that_changes(rig: Rig) -> None:
    """The toolstack's node changes the tap's, and that the guest's."""
    frontend = rig.start_frontend(320)
    guests, ours = f"{frontend.path}/mtu", f"{frontend.backend}/mtu"
    rig.store.write(guests, "1500")
    frontend.plug(mtu=1400)
    frontend.connect()
    rig.wait_node(guests, "1400")
    rig.store.write(ours, "1300")
    rig.wait_node(guests, "1300")
    assert _link(rig, frontend.tap)["mtu"] == 1300
    rig.store.write(ours, "big")
    rig.wait_log("mtu 'big' is no number: the MTU stays")
    rig.net.ip(f"link set {frontend.tap} mtu 1200")
    rig.wait_node(guests, "1200")
    assert frontend.backend_state() is XenbusState.CONNECTED


def test_a_carrier_that_comes_and_goes(rig: Rig, frontend: Frontend) -> None:
    """The host's side of the link, as the guest sees it (netif.h)."""
    carrier = f"{frontend.backend}/carrier"
    rig.wait_node(carrier, "1")
    for state, value in (("down", "0"), ("up", "1")):
        rig.net.ip(f"link set {frontend.tap} {state}")
        rig.wait_node(carrier, value)
    rig.stop_backend()
    assert frontend.node("carrier") == "0"
    rig.start_backend()
    rig.wait_node(carrier, "1")
    frontend.close()
    rig.wait_node(carrier, "0")
    # Nothing comes back of what the toolstack has removed.
    frontend.unplug()
    while rig.taps():
        pass
    assert frontend.node("carrier") is None


def _routed(rig: Rig, domid: int, ip: str) -> Frontend:
    frontend = rig.start_frontend(domid)
    frontend.plug(script="vif-route", gatewaydev="lan", ip=ip)
    return frontend


def test_a_route(rig: Rig) -> None:
    rig.net.ip("link add lan type bridge")
    # Not the address of the other end.
    rig.net.ip("addr add 192.0.2.1 peer 192.0.2.254 dev lan")
    rig.net.ip("addr add 2001:db8::1/64 dev lan nodad")
    rig.net.ip("link set lan up")
    addresses = "192.0.2.77 198.51.100.0/28 2001:db8::7 2001:db8:7::/64"
    frontend = _routed(rig, 320, addresses)
    frontend.connect()
    tap = frontend.tap
    for _ in range(2):
        four, six = (
            rig.net.ip(f"{family} route show dev {tap} metric 2").splitlines()
            for family in ("-4", "-6")
        )
        assert [line.split()[0] for line in four + six] == addresses.split()
        assert all("src 192.0.2.1 " in line for line in four)
        assert all("src 2001:db8::1 " in line for line in six)
        # The guest's gateway answers there.
        said = rig.net.ip(f"-o addr show dev {tap} scope global")
        assert "192.0.2.1/32" in said
        assert "2001:db8::1/128" in said
        proxy = f"net.ipv4.conf.{tap.replace('.', '/')}.proxy_arp"
        assert rig.net.run("sysctl", "-n", proxy).strip() == "1"
        # Another one's addresses are not to be had.
        other = _routed(rig, 321, "192.0.2.77")
        other.wait_backend(XenbusState.CLOSED)
        why = "ip 192.0.2.77/32 is another one's"
        assert other.node("hotplug-error") == why
        rig.store.remove(other.backend)
        other.end()
        rig.kill_backend()
        rig.start_backend()
        rig.wait_log("connected, to", 2)
        frontend.wait_carrier()
    frontend.unplug()
    assert tap not in rig.net.ip("-4 route show") + rig.net.ip("-6 route show")


def test_a_route_of_one_family(rig: Rig) -> None:
    """Of a gateway that has no IPv4; the tap's own address is one."""
    rig.net.ip("link add lan type bridge")
    frontend = _routed(rig, 320, "2001:db8::7")
    frontend.connect()
    said = rig.net.ip(f"-6 route show dev {frontend.tap} metric 2")
    assert said.startswith("2001:db8::7 ")
    rig.store.write(f"{frontend.backend}/ip", "192.0.2.7")
    frontend.close()
    frontend.leave()
    other = _routed(rig, 321, "192.0.2.7")
    other.wait_backend(XenbusState.CLOSED)
    assert other.node("hotplug-error") == "gatewaydev lan has no IPv4 address"


def test_a_guest_that_says_it_is_a_router(rig: Rig) -> None:
    """The host has no routes from it, nor when it had no IPv6 at first."""
    frontend = rig.start_frontend(320)
    rig.store.write(f"{frontend.path}/mtu", "1500")
    frontend.plug(mtu=1000)
    frontend.connect()
    rig.wait_node(f"{frontend.path}/mtu", "1000")
    rig.store.write(f"{frontend.backend}/mtu", "1500")
    rig.wait_node(f"{frontend.path}/mtu", "1500")
    # RFC 4861: for half an hour; with a prefix that addresses may be made of.
    advert = bytes.fromhex(
        "86000000400807080000000000000000030440c0ffffffffffffffff00000000"
        "20010db8000000000000000000000000"
    )
    source, everybody = "fe80::216:3eff:fe00:1", "ff02::1"
    with rig.net.packets(frontend.tap) as raw:
        data = frame(ip6_icmp(advert, source, everybody), kind=0x86DD)
        data = bytes.fromhex("333300000001") + data[6:]
        assert send(frontend, data) == OK
        assert next_frame(raw, to=data[:6]) == data
        data = frame(b"behind it" * 9)
        assert send(frontend, data) == OK
        assert next_frame(raw) == data
    assert "default" not in rig.net.ip("-6 route show")
    said = rig.net.ip(f"-6 addr show dev {frontend.tap}")
    assert "2001:db8" not in said


def test_what_is_no_bridge(rig: Rig) -> None:
    frontend = _plugged(rig, bridge="lo")
    frontend.wait_backend(XenbusState.CLOSED)
    why = f"{frontend.tap} cannot be a port of lo: "
    assert (frontend.node("hotplug-error") or "").startswith(why)
    assert "(is that a bridge?)" in rig.log()
    assert rig.taps() == []


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ({"vifname": "a/b"}, "no name for an interface"),
        ({"vifname": "sixteen-letters-"}, "no name for an interface"),
        ({"rate": "1"}, "is not BYTES,MICROSECONDS"),
        ({"vifname": "web%d"}, "no name for an interface"),
        ({"vifname": "taken"}, "there is an interface of that name"),
        ({"mtu": "99999"}, "mtu 99999 is not in"),
        ({"mtu": "big"}, "mtu 'big' is no number"),
        ({"vlan": "5000", "bridge": "b"}, "is no VLAN"),
        ({"script": "vif-route"}, "wants a gatewaydev"),
        ({"gatewaydev": "gone"}, "gatewaydev gone does not exist"),
        ({"gatewaydev": "taken", "ip": "x"}, "'x' does not appear to be"),
        ({"script": "/nonexistent/vif-x"}, "No such file"),
    ],
)
def test_what_cannot_be(rig: Rig, nodes: dict[str, str], why: str) -> None:
    rig.net.ip("link add taken type bridge")
    frontend = _plugged(rig, **nodes)
    frontend.wait_backend(XenbusState.CLOSED)
    assert frontend.node("hotplug-status") == "error"
    assert why in (frontend.node("hotplug-error") or "")
    assert why in rig.log()
    # Another wish, another try.
    for name in nodes:
        value = "" if name != "script" else "vif-bridge"
        rig.store.write(f"{frontend.backend}/{name}", value)
    frontend.connect()


def test_a_rate_that_is_none(rig: Rig, frontend: Frontend) -> None:
    rig.store.write(f"{frontend.backend}/rate", "fast")
    rig.wait_log("is not BYTES,MICROSECONDS: the limit stays")
    assert frontend.backend_state() is XenbusState.CONNECTED
