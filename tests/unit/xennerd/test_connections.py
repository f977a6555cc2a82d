# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of devices in their guest's unit."""

from __future__ import annotations

from xenner.types import Domid
from xennerd.domain.records import Record
from xennerd.supervisor.connections import Connections

VBD, VIF = "backend/vbd/7/51712", "backend/vif/7/0"


class Host:
    """A store, domain 7's record, and what was told."""

    def __init__(self, unit: str = "xenner@7.service") -> None:
        self.nodes: dict[str, str] = {}
        self.told: list[tuple[str, str]] = []
        self.record: Record | None = Record(
            Domid(7), "web", "", "/etc/xenner/7.cfg", unit=unit
        )
        self.connections = Connections(
            lambda domid: self.record if domid == 7 else None,
            lambda _record, line: self.told.append((line.text, line.device)),
        )
        self.connections.changed(self, "backend")

    def read(self, path: str) -> str | None:
        return self.nodes.get(path)

    def children(self, path: str) -> list[str]:
        below = (x for x in self.nodes if x.startswith(f"{path}/"))
        return sorted({x[len(path) + 1 :].split("/")[0] for x in below})

    def write(self, path: str, value: str) -> None:
        self.nodes[path] = value
        self.connections.changed(self, path)

    def remove(self, path: str) -> None:
        for node in [*self.nodes]:
            if f"{node}/".startswith(f"{path}/"):
                del self.nodes[node]
        self.connections.changed(self, path)


def test_each_change_is_told_once() -> None:
    host = Host()
    host.write(f"{VBD}/dev", "xvda")
    for state in "2445":
        host.write(f"{VBD}/state", state)
    assert host.told == [
        ("xvda is connected", "vbd/51712"),
        ("xvda is disconnected", "vbd/51712"),
    ]


def test_what_is_removed_is_disconnected() -> None:
    host = Host()
    for device in (VBD, VIF):
        host.write(f"{device}/state", "4")
    host.remove(VBD)
    host.remove("backend/vif/7")
    assert [text for text, _device in host.told[2:]] == [
        "vbd 51712 is disconnected",
        "vif 0 is disconnected",
    ]


def test_what_is_removed_is_forgotten() -> None:
    """Another device of that number has told nothing yet."""
    host = Host()
    for _ in range(1000):
        host.write(f"{VIF}/state", "4")
        host.write(f"{VIF}/state", "6")
    before = len(host.told)
    host.write(f"{VIF}/state", "4")
    assert len(host.told) == before
    host.remove(VIF)
    host.write(f"{VIF}/state", "4")
    assert host.told[before:] == [("vif 0 is connected", "vif/0")]


def test_what_was_replaced_meanwhile_is_told() -> None:
    host = Host()
    host.write(f"{VIF}/state", "4")
    host.connections.changed(host, VIF)
    assert [text for text, _device in host.told] == [
        "vif 0 is connected",
        "vif 0 is disconnected",
        "vif 0 is connected",
    ]


def test_what_was_there_before_is_not_told() -> None:
    host = Host()
    host.nodes[f"{VIF}/state"] = "4"
    host.connections.changed(host, "backend")
    host.connections.changed(host, f"{VIF}/state")
    assert not host.told


def test_who_has_no_unit_has_no_story_there() -> None:
    host = Host(unit="")
    host.write(f"{VIF}/state", "4")
    host.record = None
    host.write(f"{VIF}/state", "6")
    host.write("backend/vif/x/0/state", "4")
    assert not host.told


def test_a_guest_cannot_fill_the_journal() -> None:
    host = Host()
    for _ in range(1000):
        host.write(f"{VIF}/state", "4")
        host.write(f"{VIF}/state", "6")
    assert 20 <= len(host.told) < 100
