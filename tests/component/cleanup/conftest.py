# SPDX-License-Identifier: GPL-2.0-or-later
"""A host for xenner-cleanup: evtchnd, a store, domains that live and die."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.component.cleanup.host import Host
from tests.support.evtchnd import open_daemon
from tests.support.store import StoreProcess


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Host]:
    with ExitStack() as stack:
        # vmcores want a tmpfs.
        name = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))
        daemon = stack.enter_context(open_daemon(Path(name)))
        store = StoreProcess(tmp_path)
        store.start()
        stack.callback(store.stop)
        yield Host(Path(name), daemon, store, stack, capsys)
