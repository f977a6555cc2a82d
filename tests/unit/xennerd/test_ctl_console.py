# SPDX-License-Identifier: GPL-2.0-or-later
"""`xennerctl console`: bytes between two terminals."""

from __future__ import annotations

import os
import subprocess
import sys
import tty
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from xenner.errors import HostError
from xenner.paths import Paths
from xennerd.ctl.console import attach
from xennerd.ctl.domains import Domain

_PROGRAM = """
import os, sys
from xennerd.ctl.console import _key, pump
pump(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), _key(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("key", "typed"), [("^]", b"\x1d"), ("^a", b"\x01"), ("~", b"~")]
)
def test_what_is_typed_before_the_leave_key_is_the_guest_s(
    key: str, typed: bytes
) -> None:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    try:
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, os.ttyname(theirs), key],
            input=b"sync\n" + typed + b"rest",
            stdout=subprocess.DEVNULL,
            check=True,
        )
        os.set_blocking(ours, False)
        assert os.read(ours, 100) == b"sync\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_that_is_gone_is_told(tmp_path: Path) -> None:
    domain = cast(Domain, SimpleNamespace(domid=5, end=""))
    paths = Paths(tmp_path, tmp_path / "none")
    (tmp_path / "console.5").symlink_to("/dev/null")
    # As one is of a guest that ends in this moment.
    with pytest.raises(HostError, match=r"console.5: Inappropriate ioctl"):
        attach(paths, domain)
