# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests run where."""

from pathlib import PurePath

import pytest

from tests.environments.rules import (
    FLOORS,
    Environment,
    current_environment,
    environments_of,
    floor_of,
    floors_in,
    limit_s,
)
from tests.guests.build import cases_in

HOST, CONTAINER, MACHINE = (
    Environment.HOST,
    Environment.CONTAINER,
    Environment.MACHINE,
)


def test_each_floor_has_its_environments() -> None:
    for floor in ("style", "unit", "native", "component"):
        assert environments_of(floor) == {HOST}
    assert environments_of("kvm", needs_kvm=True) == {HOST, MACHINE}
    assert environments_of("system") == {CONTAINER, MACHINE}


def test_marks_narrow_one_after_the_other() -> None:
    assert environments_of("kvm", marks=[("host",)]) == {HOST}
    both = [("host", "machine"), ("machine",)]
    assert environments_of("kvm", marks=both) == {MACHINE}
    assert environments_of("kvm", marks=[("host",), ("machine",)]) == set()


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
        environments_of(floor, marks=[mark])


def test_a_fast_floor_has_no_use_for_kvm() -> None:
    with pytest.raises(ValueError, match="unit"):
        environments_of("unit", needs_kvm=True)


@pytest.mark.parametrize("floor", ["component", "kvm", "system"])
def test_the_machine_stands_in_for_a_host_without_kvm(floor: str) -> None:
    assert environments_of(floor, needs_kvm=True, host_kvm=False) == {MACHINE}
    # Even for what is otherwise left out there.
    (somewhere, *_) = sorted(FLOORS[floor])
    narrowed = environments_of(
        floor, marks=[(somewhere,)], needs_kvm=True, host_kvm=False
    )
    assert narrowed == {MACHINE}


def test_a_host_without_kvm_keeps_what_needs_none() -> None:
    assert environments_of("component", host_kvm=False) == {HOST}
    assert environments_of("system", host_kvm=False) == {CONTAINER, MACHINE}


@pytest.mark.parametrize("host_kvm", [True, False])
def test_every_floor_is_looked_at_somewhere(host_kvm: bool) -> None:
    looked_at = {
        floor
        for environment in Environment
        for floor in floors_in(environment, host_kvm=host_kvm)
    }
    assert looked_at == set(FLOORS)
    assert floors_in(CONTAINER, host_kvm=host_kvm) == ["system"]


def test_the_machine_gets_components_when_it_stands_in() -> None:
    assert floors_in(MACHINE, host_kvm=True) == ["kvm", "system"]
    assert floors_in(MACHINE, host_kvm=False) == ["component", "kvm", "system"]


def test_where_we_are() -> None:
    assert current_environment({}) is HOST
    assert current_environment({"XENNER_PLACE": ""}) is HOST
    assert current_environment({"XENNER_PLACE": "machine"}) is MACHINE
    with pytest.raises(ValueError):
        current_environment({"XENNER_PLACE": "moon"})


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
