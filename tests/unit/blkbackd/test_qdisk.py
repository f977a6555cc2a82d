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

from blkbackd import qdisk
from blkbackd.qdisk import Qemus
from xenner.errors import HostError
from xenner.libxenstore import Store
from xenner.types import Domid

_DOMID = Domid(7)
_PATH = "backend/qdisk/7/51712"


class _EmptyStore:
    def read(self, _path: str) -> str | None:
        return None

    def children(self, _path: str) -> list[str]:
        return []


@pytest.fixture
def qemus() -> Qemus:
    return Qemus(cast("Store", _EmptyStore()))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For a QEMU, one that does nothing."""
    path = tmp_path / "qemu"
    path.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    path.chmod(0o755)
    monkeypatch.setenv("XENNER_QDISK", str(path))
    monkeypatch.setenv("XENNER_RUNTIME_DIR", str(tmp_path))
    return path


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """More than select(2) can wait for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield first
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_end_is_seen_by_any_descriptor(
    qemus: Qemus,
    program: Path,
    many_descriptors: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(_domid: Domid) -> int:
        pidfd = os.pidfd_open(process.pid)
        high = fcntl.fcntl(pidfd, fcntl.F_DUPFD_CLOEXEC, many_descriptors)
        os.close(pidfd)
        return high

    monkeypatch.setattr(qdisk, "_find", find)
    monkeypatch.setattr(qdisk, "_END_LIMIT_S", 60.0)
    with subprocess.Popen([program]) as process:
        qemus.hold(_DOMID, _PATH)
        qemus.release(_DOMID, _PATH)
        qemus.wait_ended(_DOMID)
        assert not Path(f"/proc/{process.pid}/cmdline").exists()


def test_one_that_could_not_be_found_again_is_ended(
    qemus: Qemus, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNER_RUNTIME_DIR", str(program.with_name("absent")))
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*words: list[str], **options: object) -> subprocess.Popen[bytes]:
        started.append(real(*words, **options))  # type: ignore[call-overload]
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(HostError, match=r"qdisk\.7\.pid: No such file"):
        qemus.hold(_DOMID, _PATH)
    assert started[0].returncode is not None
    assert not Path(f"/proc/{started[0].pid}").exists()
