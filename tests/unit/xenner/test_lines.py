# SPDX-License-Identifier: GPL-2.0-or-later
"""What backends tell of devices, and how much of it."""

import logging

import pytest

from xenner.backend.lines import DeviceLog
from xenner.linebudget import LineBudget
from xenner.types import Domid

PATH = "backend/vif/7/0"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_lines_have_the_domain_and_the_device(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = DeviceLog(logging.getLogger("lines"), PATH, Domid(7))
    log.warning("%s: %d", "a", 1)
    log.name_domain({"XENNER_DOMAIN": "web", "XENNER_UUID": ""})
    log.warning("100% of it")
    first, second = caplog.records
    assert first.getMessage() == f"{PATH}: a: 1"
    assert second.getMessage() == f"{PATH}: 100% of it"
    assert not first.args
    assert vars(first)["XENNER_DOMID"] == "7"
    assert vars(first)["XENNER_DEVICE"] == "vif/0"
    assert "XENNER_DOMAIN" not in vars(first)
    assert vars(second)["XENNER_DOMAIN"] == "web"
    assert "XENNER_UUID" not in vars(second)


def test_no_more_than_so_many(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    budget = LineBudget(burst=2, per_s=0.5, clock=clock)
    log = DeviceLog(logging.getLogger("lines"), PATH, Domid(7), budget)
    for number in range(5):
        log.warning("%d", number)
        # What nobody would read costs nothing.
        log.debug("%d", number)
    clock.now_s = 2.0
    log.warning("late")
    log.warning("later")
    assert [record.getMessage() for record in caplog.records] == [
        f"{PATH}: {text}"
        for text in ("0", "1", "(3 lines too many are left out)", "late")
    ]


def test_a_budget_is_never_more_than_its_burst() -> None:
    clock = Clock()
    budget = LineBudget(burst=3, per_s=1.0, clock=clock)
    clock.now_s = 1000.0
    assert [budget.take() for _ in range(5)] == [True] * 3 + [False] * 2
    assert budget.take_dropped() == 2
    assert budget.take_dropped() == 0
