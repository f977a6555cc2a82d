# SPDX-License-Identifier: GPL-2.0-or-later
"""evtchnd for a test, its clients, and a process that is a domain."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.component.evtchnd.guestprocess import GuestProcess
from tests.support.evtchnd import Client, Daemon, open_daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with open_daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def connect(daemon: Daemon) -> Iterator[Callable[[], Client]]:
    """Makes clients that end with the test, before evtchnd does."""
    with ExitStack() as clients:
        yield lambda: clients.enter_context(Client(daemon.path))


@pytest.fixture
def guest_process(daemon: Daemon) -> Iterator[GuestProcess]:
    guest = GuestProcess(daemon)
    yield guest
    guest.close()
