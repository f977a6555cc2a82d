# SPDX-License-Identifier: GPL-2.0-or-later
"""`list` and `info` as Ganeti reads them.

Its rules are those of lib/hypervisor/hv_xen.py (version 3.1): the heading is
skipped unread, one line that it cannot take costs the whole node, and a state
is of a running instance, of one that was shut down, or of one to be left out.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from tests.unit.xennerd.samples import WEB1
from xenner.types import Domid
from xennerd.ctl import formats
from xennerd.ctl.domains import dom0, free_mib, host_mib
from xennerd.ctl.showing import host_facts

MEMINFO = "MemTotal:  8388608 kB\nMemAvailable:  {} kB\n"

_PREFIXES = [a + p for a, p in product(("r-", "rb", "-b", "--"), "-p")]
_RUNNING = {
    *(prefix + suffix for prefix in _PREFIXES for suffix in ("---", "ss-")),
    *(prefix + "sr-" for prefix in _PREFIXES),
    *("-----d", "--p--d"),
}
_SHUT_DOWN = {"---s--", "--ps--", "---s-d", "--ps-d"}


def state_of(text: str) -> str:
    assert len(text) == 6
    if text in _RUNNING:
        return "running"
    if text in _SHUT_DOWN:
        return "shutdown"
    assert text[4] == "c", f"{text!r} is no state"
    return "crashed"


Row = tuple[str, int, int, int, str, float]


def read_list(lines: list[str]) -> list[Row]:
    found = []
    for line in lines[1:]:
        name, domid, memory, nr_vcpus, state, used_s = line.split()
        if state_of(state) != "crashed":
            numbers = int(domid), int(memory), int(nr_vcpus)
            found.append((name, *numbers, state_of(state), float(used_s)))
    return found


def read_info(lines: list[str]) -> dict[str, int]:
    names = {
        **{"memory": "memory_total", "total_memory": "memory_total"},
        **{"free_memory": "memory_free", "nr_cpus": "cpu_total"},
        **{"nr_nodes": "cpu_nodes", "cores_per_socket": "cores"},
        **{"threads_per_core": "threads", "xen_major": "major"},
        **{"xen_minor": "minor"},
    }
    pairs = (line.split(":", 1) for line in lines)
    return {
        names[pair[0].strip()]: int(pair[1])
        for pair in pairs
        if len(pair) == 2 and pair[0].strip() in names
    }


def test_a_node_with_two_guests() -> None:
    idle = replace(WEB1, domid=Domid(12), name="db", vcpus=WEB1.vcpus[1:])
    guests = [WEB1, idle]
    found = read_list(list(formats.list_lines([dom0(guests), *guests])))
    assert [row[:2] for row in found] == [
        *(("Domain-0", 0), ("web1.example.com", 7), ("db", 12)),
    ]
    assert found[0][3] >= 1
    assert found[1][2:] == (512, 2, "running", 12.3)
    assert {row[4] for row in found} == {"running"}


@pytest.mark.parametrize(
    ("change", "states"),
    [
        ({"is_paused": True}, ["running"]),
        ({"is_ending": True}, ["running"]),
        ({"is_ending": True, "is_paused": True}, ["running"]),
        # Preserved: that is how it knows that the user has shut it down.
        ({"end": "poweroff"}, ["shutdown"]),
        ({"end": "crash"}, []),
        ({"end": "watchdog"}, []),
    ],
)
def test_states(change: dict[str, object], states: list[str]) -> None:
    domain = replace(WEB1, **change)  # type: ignore[arg-type]
    found = read_list(list(formats.list_lines([domain])))
    assert [row[4] for row in found] == states


def test_info_has_what_a_node_must_say() -> None:
    facts = read_info(list(formats.info_lines(host_facts([]))))
    assert len(facts) == 8
    assert all(value >= 1 for value in facts.values())
    assert (facts["major"], facts["minor"]) == (4, 17)


@pytest.mark.parametrize("available_mib", [0, 100, 7000, 8192])
@pytest.mark.parametrize("guest_mib", [0, 512, 8192, 9000])
def test_the_rest_is_the_hypervisors(
    available_mib: int, guest_mib: int
) -> None:
    meminfo = MEMINFO.format(available_mib << 10)
    guests = [replace(WEB1, memory_mib=guest_mib)]
    free = free_mib(meminfo, guests)
    used = free + host_mib(meminfo, guests) + guest_mib
    assert free <= available_mib
    # Guests may have more than there is: they have not touched it.
    assert used == max(8192, guest_mib)
