# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that QEMU serves, without one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from blkbackd.qdisk import Qdisk, refuse
from tests.support.devicemodel import FakeStore, install_program
from xenner.devicemodel import DeviceModels
from xenner.libxenstore import Store
from xenner.types import Domid

_DOMID = Domid(7)
_PATH = "backend/qdisk/7/51712"


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def models(store: FakeStore) -> DeviceModels:
    return DeviceModels(cast("Store", store), refuse)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For a QEMU, one that does nothing."""
    return install_program(tmp_path, monkeypatch)


@pytest.mark.usefixtures("program")
def test_a_fifo_keeps_nobody_waiting(
    models: DeviceModels, store: FakeStore, tmp_path: Path
) -> None:
    """QEMU says that it is no image."""
    os.mkfifo(tmp_path / "fifo")
    store.nodes = {
        f"{_PATH}/frontend": "/f",
        f"{_PATH}/state": "1",
        f"{_PATH}/params": f"qcow2:{tmp_path}/fifo",
    }
    disk = Qdisk(models, cast("Store", store), _PATH, _DOMID, lambda: None)
    assert disk.step()
    store.nodes.clear()
    assert not disk.step()
