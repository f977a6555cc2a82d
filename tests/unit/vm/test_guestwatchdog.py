# SPDX-License-Identifier: GPL-2.0-or-later
"""The timers by which a guest that hangs is ended."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from xennerd.vm.guestwatchdog import Watchdogs


def test_answers_are_xens() -> None:
    watchdogs = Watchdogs(lambda: 100.0)
    assert watchdogs.set(1, 5) == -errno.EINVAL
    assert watchdogs.set(0, 5) == 1
    assert watchdogs.set(0, 7) == 2
    assert watchdogs.set(0, 7) == -errno.ENOSPC
    assert watchdogs.set(3, 7) == -errno.EINVAL
    assert watchdogs.left_s() == 5
    assert watchdogs.set(1, 60) == 0
    assert watchdogs.left_s() == 7
    assert watchdogs.set(2, 0) == 0
    assert watchdogs.set(2, 0) == -errno.EINVAL
    assert watchdogs.left_s() == 60
    # A new one with no time at all has fired.
    assert watchdogs.set(0, 0) == 2
    assert watchdogs.left_s() == 0


def test_who_is_paused_loses_no_time() -> None:
    now_s = 0.0
    watchdogs = Watchdogs(lambda: now_s)
    watchdogs.set(0, 5)
    now_s = 3.0
    watchdogs.pause()
    assert watchdogs.left_s() is None
    now_s = 1000.0
    watchdogs.resume()
    assert watchdogs.left_s() == 2
    watchdogs.resume()
    assert watchdogs.left_s() == 2


async def test_it_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watchdogs = Watchdogs(trio.current_time)
    began_s = trio.current_time()

    request = SimpleNamespace(arg=(0, 5), result=0)

    async def come_back() -> None:
        await trio.sleep(4)
        request.arg = (1, 10)
        watchdogs.perform(request)
        assert request.result == 0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watchdogs.wait_expired)
        await trio.testing.wait_all_tasks_blocked()
        watchdogs.perform(request)
        assert request.result == 1
        nursery.start_soon(come_back)
    assert trio.current_time() - began_s == 14


async def test_a_guest_that_asks_all_the_time_is_heard_once_a_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watchdogs = Watchdogs(lambda: 100.0)
    nr_looks = 0

    def look() -> None:
        nonlocal nr_looks
        nr_looks += 1

    monkeypatch.setattr(watchdogs, "_look", look)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watchdogs.wait_expired)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(1000):
            watchdogs.perform(SimpleNamespace(arg=(3, 5), result=0))
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert 1 <= nr_looks < 100
