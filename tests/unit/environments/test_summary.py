# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of what ran where, and the verdict over it."""

from dataclasses import replace

from tests.environments.record import Result
from tests.environments.rules import Environment
from tests.environments.summary import Ran, render, render_table


def result(
    name: str, outcome: str = "passed", *, floor: str = "kvm", reason: str = ""
) -> Result:
    return Result(
        test=f"tests/{floor}/test_{name}.py::test",
        floor=floor,
        outcome=outcome,
        seconds=1.5,
        reason=reason,
    )


HOST = Ran(
    environment=Environment.HOST,
    results=(result("a", floor="unit"), result("b"), result("c")),
    seconds=4.4,
)
MACHINE = Ran(
    environment=Environment.MACHINE,
    results=(
        result("b", "failed"),
        result("d", "skipped", floor="system", reason="lvm: no group"),
    ),
    seconds=60.0,
)


def test_floors_by_environments() -> None:
    assert render_table([HOST, MACHINE]).splitlines() == [
        "floor   host           machine",
        "------------------------------------------------",
        "unit    1 passed, 2 s  -",
        "kvm     2 passed, 3 s  1 failed, 2 s",
        "system  -              1 skipped, 2 s",
        "------------------------------------------------",
        "all     3 passed, 4 s  1 failed, 1 skipped, 60 s",
    ]


def test_what_follows_the_table() -> None:
    text = render([HOST, MACHINE])
    assert text.endswith(
        "\n\nskipped:\n"
        "  machine: tests/system/test_d.py::test: lvm: no group\n"
        "\nfailed:\n"
        "  machine: tests/kvm/test_b.py::test\n"
        "\n3 passed, 1 failed, 1 skipped"
    )


def test_what_guests_left_out_is_told_once() -> None:
    again = replace(result("b"), left_out=("iret: no selectors",))
    ran = Ran(environment=Environment.HOST, results=(again, again))
    assert render([ran]).endswith(
        "\n\nleft out inside guests:\n  host: iret: no selectors\n"
        "\n2 passed, 0 failed"
    )


def test_nothing_follows_where_all_is_good() -> None:
    assert render([HOST]) == f"{render_table([HOST])}\n\n3 passed, 0 failed"
    assert HOST.is_good


def test_a_failure_is_not_good_and_a_skip_is() -> None:
    assert not MACHINE.is_good
    skipped = Ran(
        environment=Environment.MACHINE, results=(MACHINE.results[1],)
    )
    assert skipped.is_good


def test_an_environment_that_could_not_run_is_told_with_why() -> None:
    broken = Ran(
        environment=Environment.CONTAINER,
        problem="no lab, status 125:\nlab: try as root",
    )
    assert not broken.is_good
    text = render([HOST, broken])
    assert "  container: no lab, status 125:\n  lab: try as root" in text
    last_row = render_table([HOST, broken]).splitlines()[-1]
    assert last_row.endswith("BROKEN")
    assert text.endswith("\n\n3 passed, 1 failed")


def test_tests_outside_of_all_floors_are_counted() -> None:
    stray = Ran(
        environment=Environment.HOST, results=(result("x", floor="other"),)
    )
    assert "other" in render_table([stray])
