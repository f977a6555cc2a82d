# SPDX-License-Identifier: GPL-2.0-or-later
"""The store as a process, and clients that speak to its socket."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.store import StoreProcess


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreProcess]:
    """A running store, which ends without complaint."""
    store = StoreProcess(tmp_path)
    store.start()
    try:
        yield store
    finally:
        for sock in store.sockets:
            sock.close()
        left = store.stop() if store.process is not None else None
    assert left in (None, (0, b""))
    assert not store.socket_path.exists() or left is None
