# SPDX-License-Identifier: GPL-2.0-or-later
"""`xennerctl console`: bytes between two terminals."""

from __future__ import annotations

import os
import subprocess
import sys
import tty

import pytest

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
