# SPDX-License-Identifier: GPL-2.0-or-later
"""Which leftovers are nobody's, and whose they were."""

import pytest

from xenner.types import Domid
from xennerd.cleanup.classify import (
    Classified,
    Kind,
    Leftover,
    classify,
    domid_of_cgroup,
    domid_of_link,
    domid_of_node,
    domid_of_tap,
)

CORE = Leftover(Kind.VMCORE, Domid(7), "/run/xenner/vmcore.7", size_bytes=4096)
NODE = Leftover(Kind.XENSTORE, Domid(7), "/local/domain/7")
TAP = Leftover(Kind.TAP, Domid(7), "vif7.0")
SOCKET = Leftover(Kind.SOCKET, None, "/run/xenner/x.socket")


def verdicts(
    *leftovers: Leftover,
    live: tuple[int, ...] = (),
    removes_preserved: bool = False,
    doubt: str = "",
) -> list[Classified]:
    return classify(
        leftovers,
        live=frozenset(map(Domid, live)),
        removes_preserved=removes_preserved,
        doubt=doubt,
    )


def test_a_living_domains_things_are_not_even_shown() -> None:
    assert verdicts(CORE, NODE, TAP, live=(7,)) == []


def test_a_dead_domains_things_go_and_its_vmcore_goes_last() -> None:
    found = verdicts(CORE, TAP, NODE, live=(8,))
    assert [v.leftover for v in found] == [NODE, TAP, CORE]
    assert {v.why for v in found} == {"domain 7 is not running"}
    assert all(v.is_removable for v in found)


def test_domains_stay_together_daemons_come_first() -> None:
    other = Leftover(Kind.LINK, Domid(9), "/run/xenner/console.9")
    found = verdicts(other, CORE, SOCKET, NODE)
    assert [v.leftover for v in found] == [SOCKET, NODE, CORE, other]


def test_domain_0_is_the_host() -> None:
    assert verdicts(Leftover(Kind.XENSTORE, Domid(0), "/local/domain/0")) == []


def test_what_somebody_holds_is_left() -> None:
    held = Leftover(Kind.TAP, Domid(7), "vif7.0", holder="netbackd (12)")
    (verdict,) = verdicts(held)
    assert (verdict.is_removable, verdict.why) == (
        False,
        "in use by netbackd (12)",
    )
    served = Leftover(Kind.SOCKET, None, "x", holder="a process that listens")
    assert verdicts(served) == []


def test_what_was_kept_on_purpose_needs_to_be_asked_for() -> None:
    kept = Leftover(Kind.VMCORE, Domid(7), "vmcore.7", is_preserved=True)
    assert [v.is_removable for v in verdicts(kept)] == [False]
    assert [v.is_removable for v in verdicts(kept, removes_preserved=True)] == [
        True
    ]


def test_doubt_spares_what_may_be_a_domains_elsewhere() -> None:
    found = verdicts(CORE, NODE, TAP, SOCKET, doubt="who knows")
    assert {v.leftover.kind for v in found if v.is_removable} == {
        Kind.VMCORE,
        Kind.SOCKET,
    }
    assert {v.why for v in found if not v.is_removable} == {"who knows"}


@pytest.mark.parametrize(
    ("name", "alias", "domid"),
    [
        ("vif7.0", "", 7),
        ("vif12.3", "somebody else's words", 12),
        ("web0", "xenner /local/domain/0/backend/vif/7/1", 7),
        # The alias counts more than a name that is somebody's wish.
        ("vif9.0", "xenner /local/domain/0/backend/vif/7/1", 7),
        ("vif7.0", "xenner nonsense", None),
        ("vif0.0", "", None),
        ("vif7", "", None),
        ("vif7.0-emu", "", None),
        ("vif123456.0", "", None),
        ("eth0", "", None),
    ],
)
def test_taps(name: str, alias: str, domid: int | None) -> None:
    assert domid_of_tap(name, alias) == domid


@pytest.mark.parametrize(
    ("name", "domid"),
    [
        ("xenner@7.service", 7),
        ("xenner-7.slice", 7),
        ("xenner.slice", None),
        ("xenner@web.service", None),
        ("system-xenner.slice", None),
        ("xennerd.service", None),
    ],
)
def test_cgroups(name: str, domid: int | None) -> None:
    assert domid_of_cgroup(name) == domid


def test_links_and_nodes() -> None:
    assert domid_of_link("monitor.7") == 7
    assert domid_of_link("console.12") == 12
    assert domid_of_link("vmcore.7") is None
    assert domid_of_node("7") == 7
    assert [domid_of_node(n) for n in ("0", "07", "x", "7a", "")] == [None] * 5
