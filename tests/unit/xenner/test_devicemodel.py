# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's processes on a host that has many descriptors, or no room."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.support.devicemodel import FakeStore, install_program
from xenner import devicemodel
from xenner.devicemodel import DeviceModels
from xenner.errors import HostError
from xenner.libxenstore import Store
from xenner.types import Domid

_DOMID = Domid(7)
_PATH = "backend/qdisk/7/51712"


def _refuse(_store: object, path: str, text: str) -> None:
    raise AssertionError(path, text)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def models(store: FakeStore) -> DeviceModels:
    return DeviceModels(cast("Store", store), _refuse)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For a QEMU, one that does nothing."""
    return install_program(tmp_path, monkeypatch)


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """More than select(2) can wait for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield first
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_end_is_seen_by_any_descriptor(
    models: DeviceModels,
    program: Path,
    many_descriptors: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(_domid: Domid) -> int:
        pidfd = os.pidfd_open(process.pid)
        high = fcntl.fcntl(pidfd, fcntl.F_DUPFD_CLOEXEC, many_descriptors)
        os.close(pidfd)
        return high

    monkeypatch.setattr(devicemodel, "_find", find)
    monkeypatch.setattr(devicemodel, "_END_LIMIT_S", 60.0)
    with subprocess.Popen([program]) as process:
        models.hold(_DOMID, _PATH)
        models.release(_DOMID, _PATH)
        models.wait_ended(_DOMID)
        assert not Path(f"/proc/{process.pid}/cmdline").exists()


def test_one_that_could_not_be_found_again_is_ended(
    models: DeviceModels, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNER_RUNTIME_DIR", str(program.with_name("absent")))
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*words: list[str], **options: object) -> subprocess.Popen[bytes]:
        started.append(real(*words, **options))  # type: ignore[call-overload]
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(HostError, match=r"qdisk\.7\.pid: No such file"):
        models.hold(_DOMID, _PATH)
    assert started[0].returncode is not None
    assert not Path(f"/proc/{started[0].pid}").exists()


def test_the_last_device_of_any_kind_ends_it(
    models: DeviceModels,
    store: FakeStore,
    program: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A screen goes on without its domain's disks."""
    monkeypatch.setattr(devicemodel, "KINDS", ("qdisk", "vfb"))
    store.nodes = {"backend/vfb/7/0/frontend": "/f"}
    models.hold(_DOMID, _PATH)
    pid_file = program.with_name("qdisk.7.pid")
    process = Path(f"/proc/{pid_file.read_text().strip()}")
    models.release(_DOMID, _PATH)
    assert pid_file.exists()
    assert process.exists()
    store.nodes.clear()
    models.release(_DOMID, "backend/vfb/7/0")
    models.wait_ended(_DOMID)
    assert not pid_file.exists()
    assert not process.exists()
