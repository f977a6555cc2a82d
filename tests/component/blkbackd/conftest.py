# SPDX-License-Identifier: GPL-2.0-or-later
"""A running blkbackd with all it needs, and a disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.blkbackd.disk import make_disk
from tests.support.blk.rig import Frontend, Rig, build_frontend, open_rig
from tests.support.evtchnd import library


@pytest.fixture(scope="session")
def frontend_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_frontend(tmp_path_factory.mktemp("frontend"))


@pytest.fixture
def rig(tmp_path: Path, frontend_program: Path) -> Iterator[Rig]:
    library("xengnttab")
    with open_rig(tmp_path, frontend_program) as rig:
        yield rig


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    make_disk(path)
    return path


@pytest.fixture
def frontend(rig: Rig, disk: Path) -> Frontend:
    """A domain whose disk is connected."""
    frontend = rig.start_frontend(7)
    frontend.plug(disk)
    frontend.connect()
    return frontend
