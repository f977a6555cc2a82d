# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that QEMU serves, without one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from blkbackd.qdisk import Qdisk, refuse
from xenner.devicemodel import DeviceModels
from xenner.libxenstore import Store
from xenner.types import Domid

_DOMID = Domid(7)
_PATH = "backend/qdisk/7/51712"


class _Store:
    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}

    def read(self, path: str) -> str | None:
        return self.nodes.get(path)

    def children(self, _path: str) -> list[str]:
        return []


@pytest.fixture
def store() -> _Store:
    return _Store()


@pytest.fixture
def models(store: _Store) -> DeviceModels:
    return DeviceModels(cast("Store", store), refuse)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For a QEMU, one that does nothing."""
    path = tmp_path / "qemu"
    path.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    path.chmod(0o755)
    monkeypatch.setenv("XENNER_QDISK", str(path))
    monkeypatch.setenv("XENNER_RUNTIME_DIR", str(tmp_path))
    return path


@pytest.mark.usefixtures("program")
def test_a_fifo_keeps_nobody_waiting(
    models: DeviceModels, store: _Store, tmp_path: Path
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
