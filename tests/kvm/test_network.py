# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian guests on netbackd: with the host, and with each other."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environments.rules import limit_s
from tests.kvm.capture import capturing, read_capture
from tests.support.network import (
    NetworkHost,
    add_vlan,
    iperf,
    iperf_between,
    iperf_server,
    make_network_disk,
    open_network,
    ping,
)
from tests.support.services import Guest

# Two guests at a time take too long under emulation.
pytestmark = [pytest.mark.kvm, pytest.mark.environments("host")]

DOMIDS = (330, 331)
_UP = """\
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set lo up
ip link set eth0 mtu {mtu} up && ip addr add 10.9.0.{number}/24 dev eth0 &&
ip -6 addr add fd00::{number}/64 dev eth0"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_network_disk(tmp_path_factory.mktemp("network"))


@pytest.fixture
def host(
    usable_kvm: None, debian_kernel: Path, disk: Path
) -> Iterator[NetworkHost]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        open_network(Path(name), debian_kernel, disk) as host,
    ):
        yield host


def _set_up(guest: Guest, number: int, mtu: int = 1500) -> None:
    guest.do(_UP.format(number=number, mtu=mtu))


def test_a_guest_and_the_host(host: NetworkHost) -> None:
    guest = host.boot_guest(DOMIDS[0])
    name = host.vif(DOMIDS[0]).name
    host.net.ip(f"addr add 10.9.0.1/24 dev {name}")
    host.net.ip(f"addr add fd00::1/64 dev {name} nodad")
    _set_up(guest, 2)
    assert host.vif(DOMIDS[0]).mac in guest.do("ip link show eth0")
    ping(guest, "10.9.0.1")
    ping(guest, "-s", "20000", "10.9.0.1")
    ping(guest, "-s", "20000", "fd00::1")
    for words in (["-t1"], ["-t1", "-R"], ["-t1", "-6"]):
        address = "fd00::1" if "-6" in words else "10.9.0.1"
        with iperf_server(host.net, address):
            sums = iperf(guest, "-c", address, *words)
        assert sums["bytes"] > 1 << 20
    for way in ([], ["-R"]):
        with iperf_server(host.net, "10.9.0.1"):
            sums = iperf(guest, "-c", "10.9.0.1", "-u", "-b10M", "-t1", *way)
        assert sums["bytes"] > 1 << 19
    # What the guest counts is what the host does.
    said = guest.do("cat /sys/class/net/eth0/statistics/rx_errors")
    assert said.split()[-1] == "0"


def test_two_guests_on_a_bridge(host: NetworkHost, tmp_path: Path) -> None:
    host.net.ip("link add xenbr0 mtu 9000 type bridge")
    host.net.ip("link set xenbr0 up")
    guests = [host.boot_guest(domid, bridge="xenbr0") for domid in DOMIDS]
    for number, guest in enumerate(guests, 2):
        _set_up(guest, number, mtu=9000)
    trace = tmp_path / "trace"
    with capturing(host.net, host.vif(DOMIDS[1]).name, trace):
        ping(guests[0], "10.9.0.3")
        ping(guests[0], "-s", "8972", "10.9.0.3")
        ping(guests[1], "-s", "30000", "fd00::2")
        for words in (["-t1"], ["-t1", "-u", "-b10M"]):
            sums = iperf_between(guests[0], guests[1], "10.9.0.3", *words)
            assert sums["bytes"] > 1 << 19
        for number, guest in enumerate(guests, 2):
            add_vlan(guest, 7, f"10.9.7.{number}/24")
        ping(guests[0], "-s", "20000", "10.9.7.3")
        sums = iperf_between(guests[0], guests[1], "10.9.7.3", "-t1")
        assert sums["bytes"] > 1 << 19
    said = read_capture(trace, "icmp or icmp6 or vlan 7 and icmp", form="-ev")
    assert "echo request" in said
    assert re.search(r"vlan 7, .*\n.*echo request", said)
    assert "wrong" not in said
    assert "incorrect" not in said


def test_a_restart_under_load(host: NetworkHost) -> None:
    guest = host.boot_guest(DOMIDS[0])
    name = host.vif(DOMIDS[0]).name
    host.net.ip(f"addr add 10.9.0.1/24 dev {name}")
    _set_up(guest, 2)
    ping(guest, "10.9.0.1")
    with iperf_server(host.net, "10.9.0.1"):
        guest.type("iperf3 -J -c 10.9.0.1 -t6 >/out 2>&1; echo ENDED")
        for _ in range(2):
            _wait_packets(host, name)
            host.kill_netbackd()
            host.start_netbackd()
        _wait_packets(host, name)
        guest.wait_for("ENDED")
    said = guest.do("cat /out")
    sums = json.loads(said[said.index("{") : said.rindex("}") + 1])["end"]
    assert sums["sum_received"]["bytes"] > 1 << 20
    ping(guest, "10.9.0.1")


def _wait_packets(host: NetworkHost, name: str) -> None:
    """Until some hundreds have passed since now."""

    def count() -> int:
        said = host.net.ip(f"-j -s link show {name}")
        return int(json.loads(said)[0]["stats64"]["rx"]["packets"])

    deadline, before = time.monotonic() + limit_s(30), count()
    while count() < before + 300:
        assert time.monotonic() < deadline, host.log()


def test_unplugged_and_plugged_again(host: NetworkHost) -> None:
    guest = host.boot_guest(DOMIDS[0])
    vif = host.vif(DOMIDS[0])
    for _ in range(2):
        host.net.ip(f"addr add 10.9.0.1/24 dev {vif.name}")
        _set_up(guest, 2)
        ping(guest, "10.9.0.1")
        vif.remove()
        guest.do("while [ -e /sys/class/net/eth0 ]; do :; done")
        vif.add()
        guest.do("until [ -e /sys/class/net/eth0 ]; do :; done")
    assert re.search(r"disconnected, \d+ tx_packets", host.log())


def test_a_routed_guest_with_two_processors(host: NetworkHost) -> None:
    """It has as many queues, and the gateway's address is on the tap."""
    host.net.ip("link add lan type bridge")
    host.net.ip("addr add 10.9.0.1/24 dev lan")
    host.net.ip("addr add fd00::1/64 dev lan nodad")
    nodes = {"script": "vif-route", "gatewaydev": "lan"}
    nodes["ip"] = "10.9.0.2 fd00::2"
    guest = host.boot_guest(DOMIDS[0], "-smp", "2", **nodes)
    _set_up(guest, 2)
    # Who else is on the gateway's network is reached through the host.
    host.net.ip("addr add 10.9.0.77/32 dev lo")
    ping(guest, "10.9.0.77")
    ping(guest, "fd00::1")
    with iperf_server(host.net, "10.9.0.1"):
        sums = iperf(guest, "-c", "10.9.0.1", "-t1", "-P4")
    assert sums["bytes"] > 1 << 20
    assert "2 queues" in host.log()
    _check_counters(host, guest)


def _check_counters(host: NetworkHost, guest: Guest) -> None:
    """What the guest counts is what the host does, when nothing passes."""
    name, deadline = host.vif(DOMIDS[0]).name, time.monotonic() + limit_s(30)
    while True:
        said = guest.do("cat /sys/class/net/eth0/statistics/?x_packets")
        rx, tx = map(int, said.split())
        link = json.loads(host.net.ip(f"-j -s link show {name}"))[0]["stats64"]
        ours = link["tx"]["packets"], link["rx"]["packets"]
        if (rx, tx) == ours:
            return
        assert time.monotonic() < deadline, f"{rx} {tx} {ours}"
