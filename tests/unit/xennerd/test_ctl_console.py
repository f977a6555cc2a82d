# SPDX-License-Identifier: GPL-2.0-or-later
"""`xennerctl console`: bytes between two terminals."""

from __future__ import annotations

import os
import subprocess
import sys
import tty

_PROGRAM = """
import os, sys
from xennerd.ctl.creating import pump
pump(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY))
"""


def test_what_is_typed_before_the_leave_key_is_the_guest_s() -> None:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    try:
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, os.ttyname(theirs)],
            input=b"sync\n\x1drest",
            stdout=subprocess.DEVNULL,
            check=True,
        )
        os.set_blocking(ours, False)
        assert os.read(ours, 100) == b"sync\n"
    finally:
        os.close(ours)
        os.close(theirs)
