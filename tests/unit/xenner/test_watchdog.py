# SPDX-License-Identifier: GPL-2.0-or-later
"""The watchdog hears of who serves, and of nobody who hangs."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from xenner.watchdog import feed_watchdog, watchdog_s


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_who_waits(environment: dict[str, str], found: float | None) -> None:
    assert watchdog_s(environment, pid=7) == found


@pytest.fixture
def heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield manager


def said(manager: socket.socket) -> int:
    count = 0
    while True:
        try:
            assert manager.recv(100) == b"WATCHDOG=1"
        except BlockingIOError:
            return count
        count += 1


async def test_it_hears_thrice_in_its_time(
    heard: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    async def serves() -> None:
        await trio.lowlevel.checkpoint()

    with trio.move_on_after(5.5):
        await feed_watchdog(serves)
    assert said(heard) == 6


async def test_it_does_not_hear_of_who_hangs(
    heard: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    nr_served = 0

    async def hangs() -> None:
        nonlocal nr_served
        nr_served += 1
        if nr_served > 2:
            await trio.sleep_forever()

    with trio.move_on_after(100):
        await feed_watchdog(hangs)
    assert said(heard) == 2


async def test_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)

    async def never() -> None:
        raise AssertionError

    await feed_watchdog(never)
