# SPDX-License-Identifier: GPL-2.0-or-later
"""netbackd's taps on Debian's own kernel and pyroute2."""

import json
import sys

import pytest

from tests.system.conftest import output_of

# The container has the host's kernel, which need not filter VLANs.
pytestmark = pytest.mark.places("machine")

_SCRIPT = """
import subprocess
from netbackd import tap
from netbackd.frontend import Features
from netbackd.wishes import Wishes, parse_vlans

def ip(line):
    subprocess.run(["ip", *line.split()], check=True)

ip("link add xenbr0 type bridge vlan_filtering 1")
wishes = Wishes("vif7.0", bridge="xenbr0", vlans=parse_vlans("10p/20"))
for is_new in (True, False):
    placed = tap.make_tap(wishes, "backend/vif/7/0", lambda path: False)
    assert placed.is_new == is_new
    assert placed.bridge_index == tap.index_of("xenbr0")
    assert tap.our_taps() == [placed.tap]
fds = tap.open_queues("vif7.0", 2, Features(True, True, True, True))
assert len(fds) == 2
subprocess.run(["bridge", "-j", "vlan", "show", "dev", "vif7.0"], check=True)
tap.remove_tap(placed.tap)
assert tap.our_taps() == []
"""


def test_a_vlan_of_a_bridge() -> None:
    said = output_of("unshare", "-n", sys.executable, "-c", _SCRIPT)
    vlans = {
        x["vlan"]: x.get("flags", []) for x in json.loads(said)[0]["vlans"]
    }
    assert sorted(vlans) == [10, 20]
    assert sorted(vlans[10]) == ["Egress Untagged", "PVID"]
    assert vlans[20] == []
