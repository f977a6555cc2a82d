# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's own stores, as tools/setup unpacks them."""

import shutil
from pathlib import Path

import pytest

from tests.support.evtchnd import TOP

UNPACKED = TOP / "build/xen-utils/usr/lib"


def program(name: str) -> Path:
    if not shutil.which("xenstore-read"):
        pytest.skip("packages: xenstore-utils is not installed")
    path = UNPACKED / "xen-4.17/bin" / name
    if not path.exists():
        pytest.skip(f"packages: {name} is not unpacked: run tools/setup")
    return path
