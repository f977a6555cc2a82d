# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests whose guest the machine's KVM has lost are run once more.

KVM under TCG enters a guest with a state that is not the guest's, once in 10
to 25 boots of Debian (docs/lab.md); all that is left is a triple fault. A
fault of ours comes again. Nothing else that fails is run again, in no
environment.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.environments.rules import Environment
from tests.environments.summary import Ran

# More than so many are not bad luck.
_MOST_LOST = 3


def lost_tests(ran: Ran) -> list[str]:
    """Those to be run again; none if it is not only luck that failed."""
    lost = [result.test for result in ran.results if result.is_lost]
    if (
        ran.environment is not Environment.MACHINE
        or ran.problem
        or len(lost) > _MOST_LOST
    ):
        return []
    return lost


def run_with_lost(run: Callable[[Sequence[str]], Ran]) -> Ran:
    """`run` gets arguments for pytest, besides the caller's own; first none,
    then the tests that were lost."""
    first = run([])
    lost = lost_tests(first)
    if not lost:
        return first
    second = run(lost)
    by_test = {result.test: result for result in second.results}
    return replace(
        first,
        results=tuple(
            by_test.get(result.test, result) for result in first.results
        ),
        seconds=first.seconds + second.seconds,
        problem=second.problem,
        lost=tuple(lost),
    )
