# SPDX-License-Identifier: GPL-2.0-or-later
"""A root directory for lab containers and what is laid over it."""

import os
import shutil
from pathlib import Path

import pytest

from lab.root import find_root

_TOOLS = ("mmdebstrap", "nsenter", "setpriv", "unshare")


@pytest.fixture(scope="session")
def lab_root() -> Path:
    """Debian's root directory, built if it is not in the lab's cache."""
    if os.geteuid() != 0:
        pytest.skip("root: namespaces and mounts")
    for tool in _TOOLS:
        if not shutil.which(tool):
            pytest.skip(f"tools: {tool} is not installed")
    return find_root()


_UNIT = """\
[Service]
Type=notify
NotifyAccess=all
ExecStart=sh -c "systemd-notify --ready --status=listening; sleep infinity"
"""


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """Lays a unit over the root and has one file in the tree."""
    stage = tmp_path / "stage"
    units = stage / "root/etc/systemd/system"
    units.mkdir(parents=True)
    (units / "ready.service").write_text(_UNIT)
    (stage / "tree").mkdir()
    (stage / "tree/README").write_text("the tree\n")
    (stage / "env").write_text("HOME=/root\nGREETING=hello there\n")
    return stage


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The container's /out."""
    directory = tmp_path / "out"
    directory.mkdir()
    return directory
