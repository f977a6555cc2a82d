# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests run where."""

from pathlib import PurePath

import pytest

from tests.guests.build import cases_in
from tests.places.rules import (
    FLOORS,
    Place,
    current_place,
    floor_of,
    floors_in,
    limit_s,
    places_of,
)

HOST, CONTAINER, MACHINE = Place.HOST, Place.CONTAINER, Place.MACHINE


def test_each_floor_has_its_places() -> None:
    for floor in ("style", "unit", "native", "component"):
        assert places_of(floor) == {HOST}
    assert places_of("kvm", needs_kvm=True) == {HOST, MACHINE}
    assert places_of("system") == {CONTAINER, MACHINE}


def test_marks_narrow_one_after_the_other() -> None:
    assert places_of("kvm", marks=[("host",)]) == {HOST}
    both = [("host", "machine"), ("machine",)]
    assert places_of("kvm", marks=both) == {MACHINE}
    assert places_of("kvm", marks=[("host",), ("machine",)]) == set()


@pytest.mark.parametrize(
    ("floor", "mark"),
    [
        ("unit", ("machine",)),
        ("system", ("host", "machine")),
        ("kvm", ("moon",)),
        ("kvm", ()),
        ("component", ("container",)),
    ],
)
def test_marks_that_make_no_sense(floor: str, mark: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        places_of(floor, marks=[mark])


def test_a_fast_floor_has_no_use_for_kvm() -> None:
    with pytest.raises(ValueError, match="unit"):
        places_of("unit", needs_kvm=True)


@pytest.mark.parametrize("floor", ["component", "kvm", "system"])
def test_the_machine_stands_in_for_a_host_without_kvm(floor: str) -> None:
    assert places_of(floor, needs_kvm=True, host_kvm=False) == {MACHINE}
    # Even for what is otherwise left out there.
    (somewhere, *_) = sorted(FLOORS[floor])
    narrowed = places_of(
        floor, marks=[(somewhere,)], needs_kvm=True, host_kvm=False
    )
    assert narrowed == {MACHINE}


def test_a_host_without_kvm_keeps_what_needs_none() -> None:
    assert places_of("component", host_kvm=False) == {HOST}
    assert places_of("system", host_kvm=False) == {CONTAINER, MACHINE}


@pytest.mark.parametrize("host_kvm", [True, False])
def test_every_floor_is_looked_at_somewhere(host_kvm: bool) -> None:
    looked_at = {
        floor
        for place in Place
        for floor in floors_in(place, host_kvm=host_kvm)
    }
    assert looked_at == set(FLOORS)
    assert floors_in(CONTAINER, host_kvm=host_kvm) == ["system"]


def test_the_machine_gets_components_when_it_stands_in() -> None:
    assert floors_in(MACHINE, host_kvm=True) == ["kvm", "system"]
    assert floors_in(MACHINE, host_kvm=False) == ["component", "kvm", "system"]


def test_where_we_are() -> None:
    assert current_place({}) is HOST
    assert current_place({"XENNER_PLACE": ""}) is HOST
    assert current_place({"XENNER_PLACE": "machine"}) is MACHINE
    with pytest.raises(ValueError):
        current_place({"XENNER_PLACE": "moon"})


def test_limits_are_longer_under_emulation() -> None:
    assert limit_s(2, HOST) == 2
    assert limit_s(2, MACHINE) > limit_s(2, CONTAINER) >= 2


def test_floor_of_a_file() -> None:
    assert floor_of(PurePath("kvm/test_guests.py")) == "kvm"
    assert floor_of(PurePath("conftest.py")) is None


def test_the_machine_has_each_guest_once() -> None:
    """The table's patterns are believed nowhere else."""
    everywhere, machine = cases_in("host"), cases_in("machine")
    assert machine < everywhere
    guests = {case.split(".")[0] for case in everywhere}
    assert {case.split(".")[0] for case in machine} == guests
