# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the VM process's parts share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.vm.rig import Rig
from tests.environments import programs
from tests.support.store import StoreProcess


@pytest.fixture(scope="session")
def tiny() -> Path:
    """tiny.S as a kernel."""
    return programs.tiny()


@pytest.fixture
def rig(usable_kvm: None, tiny: Path) -> Iterator[Rig]:
    """A rig after whose use nothing may be left behind."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        rig = Rig(Path(name), tiny)
        try:
            yield rig
        finally:
            rig.reap()
        assert rig.left() == []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreProcess]:
    """A running store, which ends without complaint."""
    directory = tmp_path / "store"
    directory.mkdir()
    store = StoreProcess(directory)
    store.start()
    try:
        yield store
    finally:
        if store.process is not None:
            assert store.stop() == (0, b"")
