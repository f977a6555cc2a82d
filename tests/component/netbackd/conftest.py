# SPDX-License-Identifier: GPL-2.0-or-later
"""A running netbackd with all it needs, in a network namespace."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.evtchnd import library
from tests.support.net.rig import Frontend, Rig, build_frontend, open_rig


@pytest.fixture(scope="session")
def frontend_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_frontend(tmp_path_factory.mktemp("frontend"))


@pytest.fixture
def rig(tmp_path: Path, frontend_program: Path) -> Iterator[Rig]:
    library("xengnttab")
    with open_rig(tmp_path, frontend_program) as rig:
        yield rig


@pytest.fixture
def frontend(rig: Rig) -> Frontend:
    """A domain whose vif is connected."""
    frontend = rig.start_frontend(320)
    frontend.plug()
    frontend.connect()
    return frontend
