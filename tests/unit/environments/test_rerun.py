# SPDX-License-Identifier: GPL-2.0-or-later
"""What is run once more, and what becomes of it."""

from collections.abc import Sequence
from dataclasses import replace

from tests.environments.record import Result
from tests.environments.rerun import run_with_lost
from tests.environments.rules import Environment
from tests.environments.summary import Ran

PASSED = Result(test="a", floor="kvm", outcome="passed", seconds=1.0)
FAILED = replace(PASSED, test="b", outcome="failed")
LOST = replace(FAILED, test="c", is_lost=True)


def ran(
    *results: Result,
    environment: Environment = Environment.MACHINE,
    problem: str = "",
) -> Ran:
    return Ran(
        environment=environment, results=results, seconds=5.0, problem=problem
    )


class Runs:
    """Answers in turn; what it was asked for."""

    def __init__(self, *answers: Ran) -> None:
        self._answers = list(answers)
        self.asked: list[list[str]] = []

    def __call__(self, tests: Sequence[str]) -> Ran:
        self.asked.append(list(tests))
        return self._answers.pop(0)


def test_a_lost_one_is_run_alone_and_counts_as_it_ends_then() -> None:
    runs = Runs(ran(PASSED, LOST), ran(replace(LOST, outcome="passed")))
    whole = run_with_lost(runs)
    assert runs.asked == [[], ["c"]]
    assert whole.is_good
    assert [result.outcome for result in whole.results] == ["passed"] * 2
    assert whole.lost == ("c",)
    assert whole.seconds == 10.0


def test_lost_twice_has_failed() -> None:
    whole = run_with_lost(Runs(ran(PASSED, LOST), ran(LOST)))
    assert not whole.is_good


def test_a_second_run_that_cannot_be_is_a_failure() -> None:
    whole = run_with_lost(Runs(ran(LOST), ran(problem="no machine")))
    assert not whole.is_good
    assert whole.problem == "no machine"


def test_other_failures_stand() -> None:
    runs = Runs(ran(PASSED, FAILED))
    assert not run_with_lost(runs).is_good
    assert runs.asked == [[]]


def test_nowhere_but_in_the_machine() -> None:
    for environment in (Environment.HOST, Environment.CONTAINER):
        runs = Runs(ran(LOST, environment=environment))
        assert not run_with_lost(runs).is_good
        assert runs.asked == [[]]


def test_many_are_no_accident() -> None:
    many = [replace(LOST, test=str(number)) for number in range(4)]
    runs = Runs(ran(*many))
    assert not run_with_lost(runs).is_good
    assert runs.asked == [[]]
