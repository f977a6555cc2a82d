# SPDX-License-Identifier: GPL-2.0-or-later
"""netbackd's taps on Debian's own kernel and pyroute2."""

import json
import sys

import pytest

from tests.system.commands import output_of

# The container has the host's kernel, which need not filter VLANs.
pytestmark = pytest.mark.environments("machine")

_BEGIN = """
import subprocess
from netbackd import tap
from netbackd.frontend import Features
from netbackd.config import VifConfig, parse_networks, parse_vlans

def ip(line):
    subprocess.run(["ip", *line.split()], check=True)
"""
_IN_A_BRIDGE = """
ip("link add xenbr0 type bridge vlan_filtering 1")
config = VifConfig("vif7.0", bridge="xenbr0", vlans=parse_vlans("10p/20"))
for is_new in (True, False):
    placed = tap.make_tap(config, "backend/vif/7/0", lambda path: False)
    assert placed.is_new == is_new
    assert placed.bridge_index == tap.index_of("xenbr0")
    assert tap.our_taps() == [placed.tap]
fds = tap.open_queues("vif7.0", 2, Features(True, True, True, True))
assert len(fds) == 2
subprocess.run(["bridge", "-j", "vlan", "show", "dev", "vif7.0"], check=True)
tap.remove_tap(placed.tap)
assert tap.our_taps() == []
"""
_ROUTED = """
ip("link add lan type bridge")
ip("addr add 192.0.2.1/24 dev lan")
ip("addr add 2001:db8::1/64 dev lan nodad")
networks = parse_networks("192.0.2.7 2001:db8::7")
config = VifConfig("vif7.1", gateway="lan", networks=networks)
for _ in range(2):
    tap.make_tap(config, "backend/vif/7/1", lambda path: False)
ip("-o addr show dev vif7.1 scope global")
ip("-4 route show dev vif7.1 metric 2")
ip("-6 route show dev vif7.1 metric 2")
"""


def _output(script: str) -> str:
    return output_of("unshare", "-n", sys.executable, "-c", _BEGIN + script)


def test_a_vlan_of_a_bridge() -> None:
    said = _output(_IN_A_BRIDGE)
    vlans = {
        x["vlan"]: x.get("flags", []) for x in json.loads(said)[0]["vlans"]
    }
    assert sorted(vlans) == [10, 20]
    assert sorted(vlans[10]) == ["Egress Untagged", "PVID"]
    assert vlans[20] == []


def test_routes() -> None:
    said = _output(_ROUTED)
    for part in ("192.0.2.1/32", "2001:db8::1/128", "nodad"):
        assert part in said
    routes = said.splitlines()[-2:]
    assert [line.split()[0] for line in routes] == ["192.0.2.7", "2001:db8::7"]
